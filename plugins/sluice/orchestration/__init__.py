"""The Airflow face: one DAG per policy, tasks that call one use case each, watches that wait in the triggerer."""
