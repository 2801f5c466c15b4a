"""The guard: last good gets all traffic when nobody renews a release's lease, and in no other case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from sluice import release as state
from sluice.errors import Ambiguous, RolledBack, Superseded, Unreachable
from sluice.guard import Claim, guard
from sluice.ports import Traffic
from sluice.release import Phase
from tests.fakes import FakeClock, World
from tests.unit.engine.dag_run import DagRun

TICK_SECONDS = 1.0
LEASE_SECONDS = 30.0


class Over(Exception):
    """The end of a test's time."""


@dataclass
class Watchdog:
    """The real guard, with a clock of its own, over the leases of some worlds."""

    worlds: Sequence[World]
    clock: FakeClock = field(default_factory=FakeClock)
    reports: list[str] = field(default_factory=list)
    find_traffic: Callable[[World], Traffic] = lambda world: world.traffic

    async def runs(self, seconds: float) -> None:
        self.clock.after(seconds, self._stop)
        with pytest.raises(Over):
            await guard(self._claims, self.clock, self.reports.append, tick_seconds=TICK_SECONDS)

    async def _claims(self) -> Sequence[Claim]:
        return [
            Claim(f"ai/{number}", world.lease.state, lambda world=world: self.find_traffic(world))  # type: ignore[misc]
            for number, world in enumerate(self.worlds)
            if world.lease.state
        ]

    def _stop(self) -> None:
        raise Over


async def released(last: str = "shift 1") -> World:
    """A world whose release has come as far as the task `last`, and whose orchestrator is gone."""
    run = DagRun(World())
    await run.up_to(last)
    return run.world


async def renew(world: World) -> None:
    await world.lease.renew("rel-1")


async def test_last_good_is_restored_within_the_lease_and_a_tick() -> None:
    world = await released()
    watchdog = Watchdog([world])
    await watchdog.runs(LEASE_SECONDS)
    assert dict(world.traffic.weights) != {"old": 100}
    watchdog = Watchdog([world])
    await watchdog.runs(LEASE_SECONDS + 2 * TICK_SECONDS)
    assert world.traffic.weights == {"old": 100}
    assert (world.record.phase, world.record.epoch) == (Phase.ROLLED_BACK, 2)
    assert "nobody renewed the release's lease for 31 s" in world.record.reason


async def test_a_restored_release_is_reported_once_and_left_in_peace() -> None:
    world = await released()
    watchdog = Watchdog([world])
    await watchdog.runs(10 * LEASE_SECONDS)
    assert len(watchdog.reports) == 1
    assert "ai/0: release rel-1: the guard restored last good" in watchdog.reports[0]
    assert "version old has all traffic" in watchdog.reports[0]


async def test_a_lease_that_is_renewed_is_left_alone() -> None:
    world = await released()
    watchdog = Watchdog([world])
    for seconds in range(20, 400, 20):
        watchdog.clock.after(seconds, lambda: renew(world))
    await watchdog.runs(400)
    assert world.record.phase is Phase.SHIFTED
    assert watchdog.reports == []


async def test_the_last_renewal_counts_not_the_first() -> None:
    world = await released()
    watchdog = Watchdog([world])
    watchdog.clock.after(LEASE_SECONDS - 1, lambda: renew(world))
    world.clock.seconds = 10_000  # another machine's clock means nothing to the guard
    await watchdog.runs(2 * LEASE_SECONDS - 2 * TICK_SECONDS)
    assert world.record.phase is Phase.SHIFTED


@pytest.mark.parametrize("last", ["begin", "deploy", "shift 0", "watch 0", "shift 1", "watch 1", "promote"])
async def test_every_undecided_release_is_taken_back(last: str) -> None:
    world = await released(last)
    await Watchdog([world]).runs(2 * LEASE_SECONDS)
    assert world.record.phase is Phase.ROLLED_BACK
    assert world.traffic.weights == {"old": 100}


async def test_a_committed_release_is_never_touched() -> None:
    world = await released("soak")
    assert world.record.phase is Phase.COMMITTED
    world.traffic.edit({world.record.canary: 70, "old": 30})
    generation = world.traffic.generation
    await Watchdog([world]).runs(3 * LEASE_SECONDS)
    assert world.traffic.generation == generation


async def test_a_closed_release_is_never_touched() -> None:
    world = await released()
    world.guard_restores()
    world.traffic.record = state.closed(world.record)
    world.traffic.edit({"old": 50, "other": 50})
    generation = world.traffic.generation
    await Watchdog([world]).runs(3 * LEASE_SECONDS)
    assert world.traffic.generation == generation


async def test_a_lease_that_was_given_up_is_not_watched() -> None:
    world = await released()
    await world.lease.release("rel-1")
    await Watchdog([world]).runs(3 * LEASE_SECONDS)
    assert world.record.phase is Phase.SHIFTED


async def test_a_release_that_does_not_hold_the_lease_is_none_of_its_business() -> None:
    world = await released()
    assert world.lease.state is not None
    world.lease.state = replace(world.lease.state, holder="rel-2")
    await Watchdog([world]).runs(3 * LEASE_SECONDS)
    assert world.record.phase is Phase.SHIFTED


async def test_a_rollback_that_somebody_undid_by_hand_is_made_again() -> None:
    world = await released()
    world.guard_restores()
    world.traffic.edit({"old": 50, world.record.canary: 50})
    await Watchdog([world]).runs(2 * LEASE_SECONDS)
    assert world.traffic.weights == {"old": 100}


async def test_one_models_silence_does_not_keep_the_guard_from_the_others() -> None:
    silent, other = await released(), await released()
    silent.wire.down.add("traffic")
    watchdog = Watchdog([silent, other])
    await watchdog.runs(2 * LEASE_SECONDS)
    assert other.traffic.weights == {"old": 100}
    assert any(report.startswith("ai/0: the traffic does not answer") for report in watchdog.reports)


async def test_a_silent_model_is_restored_once_it_answers_again() -> None:
    world = await released()
    world.wire.down.add("traffic")
    watchdog = Watchdog([world])
    watchdog.clock.after(4 * LEASE_SECONDS, world.wire.down.clear)
    await watchdog.runs(5 * LEASE_SECONDS)
    assert world.traffic.weights == {"old": 100}


async def test_a_damaged_lease_does_not_blind_the_guard_to_the_others() -> None:
    damaged, other = await released(), await released()

    def find_traffic(world: World) -> Traffic:
        if world is damaged:
            raise Ambiguous("Lease ai/sluice-arithmetic: the annotation 'host' is missing; restore it")
        return world.traffic

    watchdog = Watchdog([damaged, other], find_traffic=find_traffic)
    await watchdog.runs(2 * LEASE_SECONDS)
    assert other.traffic.weights == {"old": 100}
    assert damaged.record.phase is Phase.SHIFTED
    assert any("the annotation 'host' is missing" in report for report in watchdog.reports)


async def test_leases_that_cannot_be_listed_are_looked_for_again() -> None:
    world, clock, reports, looks = await released(), FakeClock(), list[str](), 0

    async def find_claims() -> Sequence[Claim]:
        nonlocal looks
        looks += 1
        if looks % 2:
            raise Unreachable("the API server does not answer; start it")
        assert world.lease.state is not None
        return [Claim("ai/0", world.lease.state, lambda: world.traffic)]

    clock.after(2 * LEASE_SECONDS, Watchdog([])._stop)
    with pytest.raises(Over):
        await guard(find_claims, clock, reports.append, tick_seconds=TICK_SECONDS)
    assert world.traffic.weights == {"old": 100}
    assert "cannot look: the API server does not answer; start it" in reports


async def test_conflicts_do_not_keep_the_guard_from_restoring() -> None:
    world = await released()
    world.traffic.conflicts = 60
    await Watchdog([world]).runs(3 * LEASE_SECONDS)
    assert world.traffic.weights == {"old": 100}


async def test_a_task_that_comes_back_too_late_stops_and_the_run_says_why() -> None:
    run = DagRun(World())
    await run.up_to("shift 1")
    await Watchdog([run.world]).runs(2 * LEASE_SECONDS)
    with pytest.raises(Superseded, match="the guard restored last good"):
        await dict(run.tasks())["watch 1"]()
    conclusion = await run.teardown()
    assert isinstance(conclusion, RolledBack)
    assert "the guard restored last good" in str(conclusion)
    assert run.world.record.closed


async def test_one_trouble_is_reported_once_however_long_it_lasts() -> None:
    clock, reports = FakeClock(), list[str]()

    async def find_claims() -> Sequence[Claim]:
        raise Unreachable("the API server does not answer; start it")

    clock.after(10 * TICK_SECONDS, Watchdog([])._stop)
    with pytest.raises(Over):
        await guard(find_claims, clock, reports.append, tick_seconds=TICK_SECONDS)
    assert reports == ["cannot look: the API server does not answer; start it"]
