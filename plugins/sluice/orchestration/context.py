"""From Airflow's context to the plain data that tasks and triggers work with."""

from __future__ import annotations

from airflow.sdk import Context

from sluice.orchestration.tasks import Run, release_id


def run_of(context: Context, model: str) -> Run:
    """The run of a task; epoch and image are what the tasks `begin` and `build` have returned so far."""
    dag_run, ti = context["dag_run"], context["ti"]
    begun = ti.xcom_pull(task_ids="begin") or {}
    return Run(
        model=model,
        release=release_id(dag_run.dag_id, dag_run.run_id, dag_run.run_after),
        triggered_at=dag_run.run_after,
        requested_by=dag_run.triggering_user_name or str(dag_run.run_type.value),
        params=dict(context["params"]),
        epoch=begun.get("epoch"),
        image=ti.xcom_pull(task_ids="build"),
    )
