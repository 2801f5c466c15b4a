"""What people do to a release while it runs, in Airflow's own ways."""

from __future__ import annotations

import pytest

from sandbox.airflow.errors import Rejected
from tests.e2e.stage import DAG, Finished, Release, Stage, ladder

pytestmark = pytest.mark.timeout(300)

STOPPED = "stopped before its end: its run was marked failed"
LONG = "60s"


def mark_failed(release: Release) -> Finished:
    with release.stage.airflow() as airflow:
        airflow.mark_run(DAG, release.run_id, "failed")
    return release.finished()


def test_a_run_marked_failed_at_the_second_step_ends_with_last_good_serving_everybody(stage: Stage) -> None:
    before = stage.cluster.weights
    stage.policy(steps=ladder(second={"hold": LONG}))
    release = stage.release(stage.revision("marked-at-step-2", max_queue=1001))
    release.until("window", step=1)
    finished = mark_failed(release)
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith(STOPPED)
    assert stage.cluster.weights == before


def test_a_run_marked_failed_during_the_soak_ends_with_last_good_serving_everybody(stage: Stage) -> None:
    before = stage.cluster.weights
    stage.policy(soak=LONG)
    release = stage.release(stage.revision("marked-in-the-soak", max_queue=1002))
    release.until("window", step=2, seconds=180)
    assert sorted(stage.cluster.weights.values()) == [10, 90]
    finished = mark_failed(release)
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith(STOPPED)
    assert stage.cluster.weights == before


def test_a_watch_marked_successful_moves_nothing(stage: Stage) -> None:
    before = stage.cluster.weights
    stage.policy(steps=ladder(first={"hold": LONG}))
    release = stage.release(stage.revision("watch-marked-successful", max_queue=1003))
    release.until("window", step=0)
    with stage.airflow() as airflow:
        airflow.mark_task(DAG, release.run_id, "step_10.watch", "success")
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith("step 2 needs the advance of step 1")
    assert "clear the task that gathers it" in finished.sentence
    assert finished.shifts() == [0]
    assert stage.cluster.weights == before


def test_a_dry_run_ends_well_without_any_user_at_the_canary(stage: Stage) -> None:
    release = stage.release(stage.revision("dry", max_queue=1004), dry_run=True)
    finished = release.finished()
    assert (finished.state, finished.told["outcome"]) == ("success", "dry_run")
    assert stage.cluster.users_starts(finished.version) == []


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"revision": "", "reason": "why"}, "revision: '' should be non-empty"),
        ({"revision": "r2"}, "reason: No value passed"),
        ({"revision": "r2", "reason": "why", "dry_run": "perhaps"}, "dry_run: 'perhaps' is not of type 'boolean'"),
    ],
)
def test_wrong_values_of_the_trigger_form_are_refused(stage: Stage, conf: dict[str, str], message: str) -> None:
    with stage.airflow() as airflow:
        before = len(airflow.runs(DAG))
        with pytest.raises(Rejected, match=f"Invalid input for param {message}") as refused:
            airflow.trigger(DAG, conf)
        assert refused.value.status == 400
        assert len(airflow.runs(DAG)) == before
