"""What dies while a release runs: its tasks, the triggerer, all of Airflow."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from sandbox import supervision
from sandbox.airflow import lifecycle
from tests.e2e.stage import DAG, Stage, ladder, until

pytestmark = pytest.mark.timeout(420)

LEASE_SECONDS = 24
GUARD_SECONDS = 10
"""What the guard may take beyond the lease."""


def test_a_task_killed_during_its_shift_is_tried_again_without_shifting_twice(stage: Stage) -> None:
    release = stage.release(stage.revision("killed-in-shifts", max_queue=1011))
    release.until("ended", use_case="examine")
    with api_server_stopped(stage):  # the first shift hangs before its write
        release.until("started", use_case="shift", step=0)
        release.process_of("step_10.shift").kill()
    release.until("started", use_case="shift", step=1, pause_seconds=0.01)
    shift = release.process_of("step_50.shift")
    until(lambda: 50 in stage.cluster.weights.values(), "the second shift's write", pause_seconds=0.005)
    with contextlib.suppress(psutil.NoSuchProcess):  # it may have been faster; killed or not, the rest holds
        shift.kill()
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("success", "promoted"), finished.told["reason"]
    assert finished.shifts() == [0, 1, 2]
    assert release.task("step_10.shift")["try_number"] == 2


@contextlib.contextmanager
def api_server_stopped(stage: Stage) -> Iterator[None]:
    """Whoever calls the API server meanwhile hangs."""
    server = supervision.running(stage.world.sandbox, "apiserver")
    assert server is not None
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def test_a_triggerer_that_dies_during_a_watch_is_replaced_and_the_watch_goes_on(stage: Stage) -> None:
    release = stage.release(stage.revision("triggerer-killed", max_queue=1012))
    release.until("window", step=0)
    lifecycle.kill_component(stage.world.airflow, "triggerer")
    variables = os.environ | stage.world.variables()
    lifecycle.start_component(stage.world.airflow, "triggerer", variables)
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("success", "promoted"), finished.told["reason"]
    assert finished.shifts() == [0, 1, 2]


def test_a_release_goes_on_when_airflow_comes_back_in_time(stage: Stage) -> None:
    stage.policy(steps=ladder(first={"hold": "10s"}), lease="240s", max_hold="240s")
    release = stage.release(stage.revision("airflow-restarted", max_queue=1013))
    release.until("window", step=0)
    lifecycle.kill_all(stage.world.airflow)
    stage.airflow_up()
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("success", "promoted"), finished.told["reason"]
    assert finished.shifts() == [0, 1, 2]


def test_the_guard_restores_last_good_when_airflow_stays_away_and_the_late_task_writes_nothing(stage: Stage) -> None:
    before = stage.cluster.weights
    stage.policy(steps=ladder(second={"hold": "60s"}), lease=f"{LEASE_SECONDS}s")
    release = stage.release(stage.revision("airflow-lost", max_queue=1014))
    release.until("window", step=1)
    lifecycle.kill_all(stage.world.airflow)
    renewed_at = stage.cluster.lease_renewed_at
    until(lambda: stage.cluster.weights == before, "the guard restores last good", LEASE_SECONDS + 2 * GUARD_SECONDS)
    restored_at = time.time()
    assert restored_at - renewed_at <= LEASE_SECONDS + GUARD_SECONDS

    stage.airflow_up()
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith("the guard restored last good: nobody renewed the release's lease")
    assert finished.shifts() == [0, 1]
    assert stage.cluster.users_starts(finished.version)[-1] <= restored_at + 0.5
    with stage.airflow() as airflow:
        assert airflow.task(DAG, release.run_id, "step_50.watch")["state"] == "failed"
