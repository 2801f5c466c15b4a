"""A real Airflow for one machine: `airflow standalone` on loopback, started, watched and taken down as one thing.

`python -m sandbox.airflow up|down|status`; from code `Settings`, the functions of `lifecycle`, `Client`.
"""
