"""Whole releases, from the request to the conclusion: every end that a release can have."""

from __future__ import annotations

import math

import pytest

from sluice.engine.settle import Conclusion
from sluice.errors import RolledBack, SluiceError, Unreachable
from sluice.ports import Entry
from sluice.release import Phase
from tests.fakes import Behaviour, World
from tests.unit.engine.dag_run import Attempt, DagRun, a_policy, a_request


def entries(world: World, release: str = "rel-1") -> list[Entry]:
    return world.ledger.by_release[("arithmetic", release)]


def canary_of(run: DagRun) -> str:
    assert run.plan is not None
    return run.plan.version


async def release(world: World, **behaviour: object) -> tuple[DagRun, Conclusion | SluiceError]:
    """A release of `r2`, whose version behaves as told."""
    run = DagRun(world)
    await run.up_to("plan")
    world.versions[canary_of(run)] = Behaviour(**behaviour)  # type: ignore[arg-type]
    return run, await run.run()


def assert_settled(world: World, winner: str, gone: str) -> None:
    assert world.traffic.weights == {winner: 100}
    assert world.record.closed
    assert world.lease.holder == ""
    assert world.traffic.subsets == {winner}
    assert gone not in world.workloads.specs


async def test_a_faultless_version_is_promoted_through_every_step() -> None:
    world = World()
    run, conclusion = await release(world)
    new = canary_of(run)
    assert isinstance(conclusion, Conclusion)
    assert conclusion.outcome == "promoted"
    shares = [weights.get(new, 0) for _, weights in world.traffic.written]
    assert shares == [20, 50, 90, 100]
    assert_settled(world, winner=new, gone="old")


async def test_each_step_holds_for_its_hold_after_the_share_was_shown() -> None:
    world = World()
    await release(world)
    first, second, promotion, committed = (at for at, _ in world.traffic.written)
    assert second - first >= 10
    assert promotion - second >= 10
    assert committed - promotion >= 20


async def test_a_first_release_goes_to_everybody_in_one_write() -> None:
    world = World(stable=None)
    run, conclusion = await release(world)
    new = canary_of(run)
    assert isinstance(conclusion, Conclusion)
    assert conclusion.outcome == "promoted"
    assert [weights for _, weights in world.traffic.written] == [{new: 100}]
    assert all(role == "canary" for _, role in world.endpoint.asked)
    assert_settled(world, winner=new, gone="none")


async def test_a_first_release_below_the_floor_serves_nobody() -> None:
    world = World(stable=None)
    _, conclusion = await release(world, correct=0.3)
    assert isinstance(conclusion, RolledBack)
    assert world.telemetry.counters == {}
    assert world.traffic.weights == {"none": 100}


async def test_a_first_release_that_fails_its_users_goes_back_to_no_version() -> None:
    world = World(stable=None)
    run, conclusion = await release(world, failing=0.5)
    assert isinstance(conclusion, RolledBack)
    assert_settled(world, winner="none", gone=canary_of(run))


async def test_worse_answers_stop_a_release_before_any_user_sees_it() -> None:
    world = World()
    run, conclusion = await release(world, correct=0.6)
    assert isinstance(conclusion, RolledBack)
    assert "stopped by the examination" in str(conclusion)
    assert world.telemetry.started_at(canary_of(run)) == 0
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_an_inconclusive_examination_never_ships() -> None:
    world = World()
    world.prompts = world.prompts[:20]
    run, conclusion = await release(world, correct=0.8)
    examined = next(entry for entry in entries(world) if entry.kind == "examined")
    assert examined.data["verdict"]["outcome"] == "inconclusive"
    assert isinstance(conclusion, RolledBack)
    assert world.telemetry.started_at(canary_of(run)) == 0


async def test_failing_requests_roll_back_at_the_first_step() -> None:
    world = World()
    run, conclusion = await release(world, failing=0.2)
    assert isinstance(conclusion, RolledBack)
    assert run.failed.startswith("watch 0: errors: canary")
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_errors_that_only_load_brings_out_roll_back_at_the_second_step() -> None:
    world = World()
    run, conclusion = await release(world, failing=0.2, fails_from_weight=50)
    assert isinstance(conclusion, RolledBack)
    assert run.failed.startswith("watch 1: errors: canary")
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_a_slow_canary_is_rolled_back_by_latency() -> None:
    world = World()
    run, conclusion = await release(world, slow=0.6)
    assert isinstance(conclusion, RolledBack)
    assert "slow" in run.failed
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_a_failure_during_the_soak_goes_back_to_the_old_version() -> None:
    world = World()
    run, conclusion = await release(world, failing=0.6, fails_from_weight=90)
    assert isinstance(conclusion, RolledBack)
    assert run.failed.startswith("soak: errors")
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_a_canary_that_is_never_ready_is_rolled_back_and_the_deadline_named() -> None:
    world = World()
    run, conclusion = await release(world, starts_in_seconds=math.inf)
    assert isinstance(conclusion, RolledBack)
    assert "deadlines.ready (20 s)" in str(conclusion)
    assert "loading the weights" in str(conclusion)
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_a_crash_loop_is_not_waited_for() -> None:
    world = World()
    _, conclusion = await release(world, crashed="exit code 137, out of memory")
    assert isinstance(conclusion, RolledBack)
    assert "cannot start: exit code 137" in str(conclusion)
    assert world.clock.seconds < 20


async def test_a_canary_whose_pods_crash_at_step_2_is_rolled_back() -> None:
    world = World()
    run = DagRun(world)
    await run.up_to("shift 1")
    world.versions[canary_of(run)].crashed = "exit code 139"
    with pytest.raises(RolledBack, match="no ready pod: exit code 139"):
        await dict(run.tasks())["watch 1"]()
    assert isinstance(await run.teardown(), RolledBack)
    assert_settled(world, winner="old", gone=canary_of(run))


async def test_a_dry_run_ends_with_the_examination_and_shows_the_canary_to_nobody() -> None:
    world = World()
    run = DagRun(world, a_request(dry_run=True))
    conclusion = await run.run()
    assert isinstance(conclusion, Conclusion)
    assert conclusion.outcome == "dry_run"
    assert world.telemetry.started_at(canary_of(run)) == 0
    assert_settled(world, winner="old", gone=canary_of(run))


@pytest.mark.parametrize(("task", "down"), [("deploy", "workloads"), ("settle", "traffic")])
async def test_a_dry_run_stays_one_though_the_cluster_did_not_answer_for_a_while(task: str, down: str) -> None:
    world = World()

    async def play(name: str, attempt: Attempt) -> object:
        if name == task:
            world.wire.down.add(down)
            with pytest.raises(Unreachable):
                await attempt()
            world.wire.down.clear()
        return await attempt()

    conclusion = await DagRun(world, a_request(dry_run=True), play=play).run()
    assert isinstance(conclusion, Conclusion)
    assert conclusion.outcome == "dry_run"


async def test_a_second_release_finds_the_first_one_settled() -> None:
    world = World()
    first = DagRun(world)
    await first.run()
    second = DagRun(world, a_request("rel-2", "r3"))
    conclusion = await second.run()
    assert isinstance(conclusion, Conclusion)
    assert second.begun is not None
    assert second.begun.last_good == canary_of(first)
    assert_settled(world, winner=canary_of(second), gone=canary_of(first))


async def test_a_version_that_has_all_traffic_already_leaves_nothing_to_do() -> None:
    world = World()
    await DagRun(world).run()
    again = DagRun(world, a_request("rel-2"))
    await again.up_to("plan")
    assert again.plan is not None
    assert again.plan.nothing_to_do


async def test_a_version_that_is_still_in_its_soak_is_not_at_rest() -> None:
    world = World(stable=None)
    first = DagRun(world)
    await first.up_to("promote")
    assert world.traffic.weights == {canary_of(first): 100}
    again = DagRun(world, a_request("rel-2"))
    await again.up_to("plan")
    assert again.plan is not None
    assert not again.plan.nothing_to_do


async def test_conflicts_on_the_way_change_nothing() -> None:
    world = World()
    run = DagRun(world)
    for task, _ in run.tasks():
        run.before[task] = lambda: setattr(world.traffic, "conflicts", 3)
    conclusion = await run.run()
    assert isinstance(conclusion, Conclusion)
    shares = [weights.get(canary_of(run), 0) for _, weights in world.traffic.written]
    assert shares == [20, 50, 90, 100]


async def test_going_back_is_tried_through_any_number_of_conflicts() -> None:
    world = World()
    run = DagRun(world)
    await run.up_to("shift 1")
    world.versions[canary_of(run)].crashed = "exit code 139"
    world.traffic.conflicts = 50
    with pytest.raises(RolledBack):
        await dict(run.tasks())["watch 1"]()
    assert world.record.phase is Phase.ROLLED_BACK
    assert world.traffic.weights == {"old": 100}


async def test_the_evidence_of_a_slow_ladder_is_judged_step_by_step() -> None:
    world = World()
    run = DagRun(world, policy=a_policy(steps=[{"weight": 5}, {"weight": 20}, {"weight": 50}], max_hold="10m"))
    conclusion = await run.run()
    assert isinstance(conclusion, Conclusion)
    looks = [entry.data for entry in entries(world) if entry.kind == "look"]
    assert [look["step"] for look in looks] == [0, 1, 2, 3]
    assert [look["weight"] for look in looks] == [5, 20, 50, 90]
    assert all(abs(look["share"]["numbers"]["observed_percent"] - look["weight"]) < 5 for look in looks[:3])
