"""Logins that Airflow keeps."""

from __future__ import annotations

import pytest

from sluice.orchestration.connections import task_settings


def test_the_registrys_login_is_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REGISTRY_USER", "somebody")
    monkeypatch.setenv("AIRFLOW_CONN_SLUICE_REGISTRY", '{"conn_type": "docker", "login": "robot", "password": "s3"}')
    found = task_settings()
    assert (found.registry_user, found.registry_password) == ("robot", "s3")


def test_without_the_connection_the_variables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REGISTRY_USER", "somebody")
    assert task_settings().registry_user == "somebody"


def test_who_builds_no_images_needs_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_IMAGES", "bundles")
    monkeypatch.setenv("AIRFLOW_CONN_SLUICE_REGISTRY", '{"conn_type": "docker", "login": "robot"}')
    assert task_settings().registry_user == ""
