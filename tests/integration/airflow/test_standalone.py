"""A real Airflow: up, a run of two tasks, a run that a person ends, parts that die, and down without a trace."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sandbox.airflow import lifecycle
from sandbox.airflow.client import Client
from sandbox.airflow.errors import NotUp, PortTaken, Rejected
from sandbox.airflow.processes import COMPONENTS
from sandbox.airflow.settings import Settings
from sandbox.processes import ProcessIdentity

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

DAGS = """
import time
from airflow.sdk import dag, task

@dag(schedule=None)
def sums():
    @task
    def add():
        print("adding one and two")
        return {"sum": 1 + 2}

    @task
    def double(added):
        return 2 * added["sum"]

    double(add())

@dag(schedule=None)
def sleeper():
    @task
    def sleep():
        time.sleep(600)

    sleep()

sums()
sleeper()
"""


def quiet(line: str) -> None:
    """What people would see is of no interest here."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main_pids(settings: Settings) -> list[int]:
    return [lifecycle.component_pids(settings, name)[0] for name in COMPONENTS]


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if ProcessIdentity.of(pid)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    root = tmp_path_factory.mktemp("airflow")
    dags, plugins = root / "dags", root / "plugins"
    dags.mkdir()
    plugins.mkdir()
    (dags / "small.py").write_text(DAGS)
    settings = Settings(root / "home", free_port(), dags, plugins)
    lifecycle.up(settings, quiet)
    yield settings
    lifecycle.down(settings, quiet)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client.of(settings) as client:
        yield client


def test_a_run_is_followed_to_its_end_and_leaves_log_and_result(client: Client) -> None:
    client.await_dag("sums")
    run_id = client.trigger("sums", run_id="first", note="to see it run")["dag_run_id"]
    seen: list[tuple[str, str]] = []

    run = client.wait("sums", run_id, 120, lambda task: seen.append((task["task_id"], task["state"])))

    assert (run["dag_run_id"], run["state"], run["note"]) == ("first", "success", "to see it run")
    assert seen[-1] == ("double", "success")
    assert client.xcom("sums", run_id, "add") == {"sum": 3}
    assert client.xcom("sums", run_id, "double") == 6
    assert "adding one and two" in client.log("sums", run_id, "add")
    assert client.import_errors() == []


def test_the_same_run_id_is_refused_the_second_time(client: Client) -> None:
    client.await_dag("sums")
    client.trigger("sums", run_id="once")

    with pytest.raises(Rejected, match="409"):
        client.trigger("sums", run_id="once")


def test_marking_a_run_failed_ends_its_running_task(client: Client, settings: Settings) -> None:
    client.await_dag("sleeper")
    run_id = client.trigger("sleeper")["dag_run_id"]
    client.await_task("sleeper", run_id, "sleep", {"running"}, 60)

    client.mark_run("sleeper", run_id, "failed")

    assert client.wait("sleeper", run_id, 60)["state"] == "failed"
    assert client.task("sleeper", run_id, "sleep")["state"] == "failed"


def test_up_is_a_no_op_while_it_runs(settings: Settings) -> None:
    before = main_pids(settings)
    said: list[str] = []

    lifecycle.up(settings, said.append)

    assert main_pids(settings) == before
    assert said == [f"Airflow is up already: {settings.url}"]


def test_a_taken_port_is_named_before_anything_starts(settings: Settings, tmp_path: Path) -> None:
    other = Settings(tmp_path / "home", settings.port, settings.dags, settings.plugins)

    with pytest.raises(PortTaken, match=rf"Port {settings.port} .*--port"):
        lifecycle.up(other, quiet)

    assert lifecycle.all_pids(other) == []


def test_a_killed_triggerer_stays_away_until_it_is_started(settings: Settings) -> None:
    lifecycle.kill_component(settings, "triggerer")
    assert lifecycle.component_pids(settings, "triggerer") == []

    lifecycle.start_component(settings, "triggerer")

    assert lifecycle.component_pids(settings, "triggerer") != []


def test_every_component_is_found(settings: Settings) -> None:
    assert len(set(main_pids(settings))) == 4


def test_it_listens_on_loopback_only(settings: Settings) -> None:
    listening = [
        connection.laddr.ip
        for pid in lifecycle.all_pids(settings)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert set(listening) == {"127.0.0.1"}


def test_down_leaves_no_process_not_even_a_running_task(settings: Settings, client: Client) -> None:
    run_id = client.trigger("sleeper")["dag_run_id"]
    client.await_task("sleeper", run_id, "sleep", {"running"}, 60)
    pids = lifecycle.all_pids(settings)

    lifecycle.down(settings, quiet)

    assert living(pids) == []
    with pytest.raises(NotUp, match=r"start it with `python -m sandbox.airflow up"):
        client.health()


def test_after_a_power_cut_it_starts_again_with_the_same_password(settings: Settings) -> None:
    lifecycle.up(settings, quiet)
    pids = lifecycle.all_pids(settings)

    lifecycle.kill_all(settings)
    assert living(pids) == []

    lifecycle.up(settings, quiet)
    with Client.of(settings) as client:
        assert client.run("sums", "first")["state"] == "success"
