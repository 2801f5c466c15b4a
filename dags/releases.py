"""One release DAG per policy in releases/ (Airflow reads this file; what a DAG does is in plugins/sluice)."""

from airflow.sdk import get_parsing_context

from sluice import settings
from sluice.orchestration.dag import release_dags

globals().update(release_dags(settings.read().releases, only=get_parsing_context().dag_id))
