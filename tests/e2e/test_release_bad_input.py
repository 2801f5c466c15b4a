"""What cannot be released is refused by its plan, with the remedy, before anything was touched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sandbox import supervision
from tests.e2e.stage import MODEL, Finished, Stage

pytestmark = pytest.mark.timeout(420)  # the first test starts the world


def refused(stage: Stage, revision: str) -> Finished:
    """A release that its plan refuses: nothing of the cluster is any different after it."""
    before = stage.cluster.get("virtualservices", MODEL), stage.cluster.get("destinationrules", MODEL)
    finished = stage.release(revision).finished()
    assert (finished.state, finished.told["outcome"]) == ("failed", "refused")
    assert (stage.cluster.get("virtualservices", MODEL), stage.cluster.get("destinationrules", MODEL)) == before
    return finished


def test_an_unknown_revision_is_refused_with_the_known_ones(stage: Stage) -> None:
    reason = refused(stage, "r99").told["reason"]
    assert reason.startswith(f"revision 'r99' is unknown in {stage.revisions}; the known ones are ")
    assert "r1, r2" in reason


def test_a_truncated_weights_file_is_refused_by_name(stage: Stage) -> None:
    weights = stage.revisions / stage.revision("truncated") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    reason = refused(stage, "truncated").told["reason"]
    assert reason == (
        f"{weights}: the file is truncated: {len(whole)} bytes expected, {len(whole) // 2} found; copy it again"
    )


def test_a_broken_policy_fails_its_own_dag_with_file_and_line(stage: Stage) -> None:
    broken: Path = stage.releases / "broken.yaml"
    with stage.airflow() as airflow:
        airflow.await_dag("release_broken")
        run = airflow.trigger("release_broken", {"revision": "r1", "reason": "test"})
        state = airflow.wait("release_broken", run["dag_run_id"], 60)["state"]
        log = airflow.log("release_broken", run["dag_run_id"], "plan")
    assert state == "failed"
    assert f"{broken}:5: steps: step 2 has weight 10, but a ladder goes up: above 25" in log


def test_an_api_server_that_is_down_fails_the_plan_with_its_address(stage: Stage) -> None:
    described = supervision.describe(stage.world.sandbox)
    api_server = supervision.running(stage.world.sandbox, "apiserver")
    assert described is not None
    assert api_server is not None
    before = stage.cluster.get("virtualservices", MODEL)
    api_server.signal(signal.SIGKILL)
    try:
        finished = stage.release("r2").finished()
    finally:
        stage.sandbox_up()
    assert (finished.state, finished.told["outcome"]) == ("failed", "refused")
    assert described["api_url"] in finished.told["reason"]
    assert stage.cluster.get("virtualservices", MODEL) == before
