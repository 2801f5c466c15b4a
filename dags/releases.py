"""One release DAG per policy in releases/ (Airflow reads this file; what a DAG does is in plugins/sluice)."""

from sluice import settings
from sluice.orchestration.dag import release_dags

globals().update(release_dags(settings.read().releases))
