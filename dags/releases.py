"""One release DAG per policy in releases/ (airflow reads this file; what a DAG does is in plugins/sluice)."""

from pathlib import Path

from sluice.orchestration.dag import release_dags

globals().update(release_dags(Path(__file__).parent.parent / "releases"))
