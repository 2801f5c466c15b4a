"""settle and conclude: whatever happened before, the traffic ends where the record says."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.engine.deploy import begin
from sluice.engine.settle import conclude, settle
from sluice.engine.writes import restore
from sluice.errors import LeaseHeld, Refused, RolledBack, Unreachable
from sluice.release import Phase
from tests.fakes import Killed, World
from tests.unit.engine.dag_run import DagRun, a_request

TASKS = [name for name, _ in DagRun(World()).tasks()]


async def begun(last: str = "begin", release: str = "rel-1", world: World | None = None) -> DagRun:
    run = DagRun(world or World(), a_request(release, "r2" if release == "rel-1" else "r3"))
    await run.up_to(last)
    return run


@pytest.mark.parametrize("last", TASKS[TASKS.index("begin") :])
async def test_a_run_that_is_marked_failed_after_any_task_ends_at_rest(last: str) -> None:
    run = await begun(last)
    conclusion = await run.teardown()
    record = run.world.record
    winner = record.canary if last == "soak" else "old"
    assert run.world.traffic.weights == {winner: 100}
    assert record.closed
    assert run.world.workloads.specs.keys() == {winner}
    assert run.world.traffic.subsets == {winner}
    assert run.world.lease.holder == ""
    assert isinstance(conclusion, RolledBack) == (last != "soak")


async def test_a_release_that_was_stopped_from_outside_says_so() -> None:
    run = await begun("shift 0")
    assert "stopped before its end: its run was marked failed" in str(await run.teardown())


async def test_settling_twice_changes_nothing() -> None:
    run = await begun("shift 0")
    assert run.plan is not None
    first = await settle(run.world.ports, run.plan)
    generation = run.world.traffic.generation
    assert await settle(run.world.ports, run.plan) == first
    assert run.world.traffic.generation == generation


async def test_a_release_that_never_began_has_nothing_to_settle() -> None:
    run = await begun("build")
    assert run.plan is not None
    generation = run.world.traffic.generation
    assert await settle(run.world.ports, run.plan) is None
    assert run.world.traffic.generation == generation


async def test_what_nobody_verified_is_no_conclusion() -> None:
    run = await begun("shift 0")
    assert run.plan is not None
    with pytest.raises(Refused, match=r"Nothing verified the traffic.*clear the task settle"):
        await conclude(run.world.ports, run.plan)


async def test_the_version_that_lost_is_drained_before_its_pods_go() -> None:
    run = await begun("shift 1")
    run.world.wire.new_process()
    await run.teardown()
    calls = run.world.wire.calls
    restored, removed = calls.index("traffic.restore"), calls.index("workloads.remove")
    assert calls[restored:removed].count("telemetry.totals") >= 2


async def test_settling_waits_no_longer_than_the_drains_deadline_for_metrics() -> None:
    run = await begun("shift 1")
    run.world.wire.down.add("telemetry")
    before = run.world.clock.seconds
    assert isinstance(await run.teardown(), RolledBack)
    assert run.world.clock.seconds - before <= 12


async def test_an_edit_after_the_end_is_named_not_overwritten() -> None:
    run = await begun("shift 0")
    await run.teardown()
    run.world.traffic.edit({"old": 50, "other": 50})
    assert run.plan is not None
    with pytest.raises(Refused, match="the traffic is old 50 %, other 50 %; look who edits"):
        await settle(run.world.ports, run.plan)


async def test_settle_gives_up_for_a_retry_when_the_cluster_stays_away() -> None:
    run = await begun("shift 0")
    assert run.plan is not None
    run.world.wire.down.add("traffic")
    with pytest.raises(Unreachable):
        await settle(run.world.ports, run.plan)
    run.world.wire.down.clear()
    assert isinstance(await run.teardown(), RolledBack)


async def test_a_conclusion_without_settle_says_what_settle_failed_of() -> None:
    run = await begun("shift 0")
    assert run.plan is not None
    run.world.wire.down.add("traffic")
    with pytest.raises(Unreachable):
        await settle(run.world.ports, run.plan)
    with pytest.raises(Refused, match=r"the traffic does not answer.*Nothing verified"):
        await conclude(run.world.ports, run.plan)


async def test_nothing_is_restored_once_a_release_is_closed() -> None:
    run = await begun("shift 0")
    await run.teardown()
    closed = run.world.record
    run.world.traffic.edit({"old": 50, "other": 50})
    assert await restore(run.world.traffic, run.world.clock, "rel-1", "late") == closed
    assert run.world.traffic.weights == {"old": 50, "other": 50}


# --- leftovers -------------------------------------------------------------------------------------------------------


async def test_a_release_is_refused_while_anothers_lease_runs() -> None:
    first = await begun("shift 0")
    second = await begun("build", "rel-2", first.world)
    assert second.plan is not None
    with pytest.raises(LeaseHeld, match="release rel-1 holds the lease"):
        await begin(first.world.ports, second.plan)
    assert first.world.record.release == "rel-1"
    assert first.world.lease.holder == "rel-1"


@pytest.mark.parametrize("last", ["begin", "shift 0", "watch 1", "promote", "soak"])
async def test_the_next_begin_settles_a_leftover_whose_lease_ran_out(last: str) -> None:
    first = await begun(last)
    left = first.world.record
    winner, loser = (left.canary, "old") if left.phase is Phase.COMMITTED else ("old", left.canary)
    await first.world.clock.sleep(40)
    second = await begun("begin", "rel-2", first.world)
    assert second.begun is not None
    assert second.begun.last_good == winner
    assert loser not in first.world.workloads.specs
    assert first.world.traffic.weights == {winner: 100}


async def test_the_late_settle_of_a_leftover_leaves_the_new_release_alone() -> None:
    first = await begun("shift 0")
    await first.world.clock.sleep(40)
    second = await begun("shift 0", "rel-2", first.world)
    weights = dict(first.world.traffic.weights)
    assert first.plan is not None
    assert await settle(first.world.ports, first.plan) is None
    assert first.world.traffic.weights == weights
    assert first.world.lease.holder == second.request.release


async def test_a_dry_run_that_was_killed_with_its_bad_verdict_has_not_passed() -> None:
    run = DagRun(World(), a_request(dry_run=True))
    await run.up_to("deploy")
    run.world.versions[run.world.record.canary].correct = 0.2
    restored = run.world.traffic.restore

    async def killed(*arguments: Any) -> Any:
        raise Killed("between the verdict and the way back")

    run.world.traffic.restore = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await run.up_to("examine")
    run.world.traffic.restore = restored  # type: ignore[method-assign]
    conclusion = await run.teardown()
    assert isinstance(conclusion, RolledBack)
    assert "passed the examination" not in str(conclusion)


# --- the report ------------------------------------------------------------------------------------------------------


async def test_every_concluded_release_has_its_page() -> None:
    run = DagRun(World())
    await run.run()
    page = run.world.ledger.attached["arithmetic", "rel-1", "report.html"]
    assert page == f"{len(run.world.ledger.by_release['arithmetic', 'rel-1']) - 1} entries".encode()


async def test_a_page_that_cannot_be_made_changes_no_outcome() -> None:
    run = DagRun(World())
    await run.up_to("soak")

    async def away(model: str, release: str, name: str, content: bytes) -> str:
        raise Unreachable("the ledger cannot write")

    run.world.ledger.attach = away  # type: ignore[method-assign]
    assert run.plan is not None
    said: list[str] = []
    await settle(run.world.ports, run.plan)
    assert (await conclude(run.world.ports, run.plan, said.append)).outcome == "promoted"
    assert said == ["the page with the evidence could not be made: the ledger cannot write"]
