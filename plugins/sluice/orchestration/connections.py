"""What tasks know beside SLUICE_* variables: logins, which Airflow keeps as connections."""

from __future__ import annotations

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from sluice import settings
from sluice.settings import Settings

REGISTRY = "sluice_registry"
"""Any type of connection with a login and a password: who pushes images."""


def task_settings() -> Settings:
    """The settings of a task, with the registry's login if there is such a connection.

    Raises BadInput. Not for triggers, which build nothing: it asks Airflow's API and waits for the answer.
    """
    found = settings.read()
    if found.images != "docker":
        return found
    try:
        registry = Connection.get(REGISTRY)
    except AirflowNotFoundException:
        return found
    login = {"registry_user": registry.login or "", "registry_password": registry.password or ""}
    return found.model_copy(update=login)
