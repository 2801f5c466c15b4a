"""What the ledger tells of a release: its end, its steps, its times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice.engine.settle import conclude
from sluice.errors import Refused, RetryLater, SluiceError
from sluice.ledger.summary import summary
from tests.fakes import Behaviour, World
from tests.unit.engine.dag_run import Attempt, DagRun, a_request, with_retries


def told(run: DagRun) -> dict[str, Any]:
    return summary(run.world.ledger.by_release[("arithmetic", "rel-1")])


async def released(**behaviour: Any) -> DagRun:
    run = DagRun(World())
    await run.up_to("plan")
    assert run.plan is not None
    run.world.versions[run.plan.version] = Behaviour(**behaviour)
    await run.run()
    return run


async def test_a_promoted_release_has_all_its_steps_with_weights_written_and_seen() -> None:
    run = await released()
    assert run.plan is not None
    row = told(run)
    assert (row["revision"], row["version"], row["outcome"]) == ("r2", run.plan.version, "promoted")
    assert [(step["step"], step["weight"], step["verdict"]) for step in row["steps"]] == [
        (0, 20, "advance"),
        (1, 50, "advance"),
        (2, 90, "advance"),
    ]
    assert [step["observed"] and round(step["observed"], -1) for step in row["steps"]] == [20, 50, None]
    assert all(step["canary_requests"] > 0 for step in row["steps"])
    assert row["examination"]["outcome"] == "non_inferior"


async def test_a_release_that_was_rolled_back_has_the_reason() -> None:
    row = told(await released(failing=0.4))
    assert row["outcome"] == "rolled_back"
    assert row["reason"].startswith("errors: canary")
    assert [(step["weight"], step["verdict"]) for step in row["steps"]] == [(20, "roll_back")]


async def test_a_release_that_was_blocked_has_its_examination_and_no_steps() -> None:
    row = told(await released(correct=0.3))
    assert (row["outcome"], row["steps"]) == ("rolled_back", [])
    assert row["examination"]["outcome"] == "regression"


async def test_a_release_under_way_is_running() -> None:
    run = DagRun(World())
    await run.up_to("shift 1")
    row = told(run)
    assert (row["outcome"], row["reason"]) == ("running", "")
    assert [step["weight"] for step in row["steps"]] == [20]


async def test_an_unknown_revision_is_refused_with_its_sentence() -> None:
    run = DagRun(World(), a_request(revision="r9"))
    assert isinstance(await run.run(), SluiceError)
    row = told(run)
    assert (row["revision"], row["outcome"]) == ("r9", "refused")
    assert row["reason"] == "revision 'r9' is unknown; known: r1, r2, r3"


@pytest.mark.parametrize(("task", "down"), [("build", "images"), ("begin", "traffic")])
async def test_a_task_that_was_tried_again_with_success_was_not_refused(task: str, down: str) -> None:
    world = World()

    async def play(name: str, attempt: Attempt) -> Any:
        if name == task:
            world.wire.down.add(down)
            with pytest.raises(RetryLater):
                await attempt()
            world.wire.down.clear()
        return await with_retries(name, attempt)

    run = DagRun(world, play=play)
    await run.up_to("shift 0")
    assert told(run)["outcome"] == "running"


async def test_a_release_that_nobody_could_settle_is_unsettled() -> None:
    run = DagRun(World())
    await run.up_to("shift 0")
    assert run.plan is not None
    with pytest.raises(Refused):
        await conclude(run.world.ports, run.plan)
    assert told(run)["outcome"] == "unsettled"
    assert "clear the task settle" in told(run)["reason"]


async def test_the_seconds_of_the_tasks_and_between_them_make_the_total() -> None:
    async def play(name: str, attempt: Attempt) -> Any:
        await world.clock.sleep(2.0)  # what Airflow takes to start a task
        return await attempt()

    world = World()
    run = DagRun(world, play=play)
    await run.run()
    row = told(run)
    tasks = len(run.tasks()) + 2
    assert row["overhead_seconds"] == pytest.approx(2.0 * tasks)
    assert row["seconds"] == pytest.approx(world.clock.seconds)
    assert sum(task["seconds"] + task["overhead_seconds"] for task in row["tasks"]) == pytest.approx(row["seconds"])
    assert [task["use_case"] for task in row["tasks"]][:3] == ["plan", "build", "begin"]


async def test_a_summary_is_plain_json() -> None:
    row = told(await released())
    assert json.loads(json.dumps(row)) == row
