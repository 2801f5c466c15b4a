"""One drill DAG per policy in releases/ (Airflow reads this file; what a DAG does is in plugins/sluice)."""

from airflow.sdk import get_parsing_context

from sluice import settings
from sluice.orchestration.drill import drill_dags

globals().update(drill_dags(settings.read().releases, only=get_parsing_context().dag_id))
