"""A drill: a bad version must be blocked by the gate that is there for it, and nothing is left of it."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from sluice.engine.drill import DrillResult, drill, finish
from sluice.engine.faults import Fault, drill_id, fault_of, last_drill, overdue, settings_of
from sluice.errors import BadInput, LeaseHeld, Refused
from sluice.ledger.summary import summary
from sluice.policy import ReleasePolicy
from sluice.ports import Answer, Prompt, Role
from sluice.release import Phase
from tests.fakes import MORNING, FakeEndpoint, Killed, World
from tests.unit.engine.dag_run import ROOT, DagRun, a_policy, a_request, with_retries
from tests.unit.engine.test_killed_anywhere import NOTICED_SECONDS, dying


class FaultyServers(FakeEndpoint):
    """Versions do to probes what their SERVING_FAULT says, as the real server does."""

    def __init__(self, world: World) -> None:
        super().__init__(world.wire, world.traffic, world.versions)
        self.workloads = world.workloads
        self.heeded = True
        """Whether the servers heed the setting at all."""

    async def ask(self, prompt: Prompt, role: Role, token: str) -> Answer:
        answer = await super().ask(prompt, role, token)
        version = self._behind(role, token)
        spec = self.workloads.specs.get(version or "")
        name, _, amount = (spec.environment if spec else {}).get("SERVING_FAULT", "").partition(":")
        if not name or not self.heeded:
            return answer
        if name == "late":
            return replace(answer, ttft_seconds=float(amount), e2e_seconds=float(amount) + answer.e2e_seconds)
        if random.Random(f"{version}/{prompt.id}/fault").random() >= float(amount):
            return answer
        faulty = {
            "wrong": replace(answer, text="wrong"),
            "error": replace(answer, text="", error="HTTP 500"),
            "hang": replace(answer, text="", error="no answer within 20 s", e2e_seconds=20.0),
        }
        return faulty[name]


def silently(line: str) -> None: ...


async def promoted() -> World:
    """A world in which r1 was released and serves everybody."""
    world = World()
    run = DagRun(world, a_request("20260301t090000-abcdef", "r1"))
    await run.run()
    assert world.record.phase is Phase.COMMITTED
    world.endpoint = FaultyServers(world)
    return world


def the_id(fault: Fault) -> str:
    return drill_id(fault, MORNING + timedelta(hours=1), "a run")


async def drilled(world: World, fault: Fault = Fault.WRONG, policy: ReleasePolicy | None = None) -> DrillResult:
    return await drill(
        world.ports,
        policy or a_policy(),
        fault,
        release=the_id(fault),
        requested_by="somebody",
        root=ROOT,
        progress=silently,
    )


def assert_as_before(world: World, stable: str) -> None:
    assert world.traffic.weights == {stable: 100}
    assert world.traffic.subsets == {stable}
    assert world.workloads.specs.keys() == {stable}
    assert world.lease.holder == ""
    assert world.record.closed


def stable_of(world: World) -> str:
    (version,) = world.traffic.weights
    return version


# --- what blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "gates"),
    [
        (Fault.WRONG, {"quality"}),
        (Fault.SLOW, {"latency"}),
        (Fault.FAILING, {"quality", "errors"}),
        (Fault.HANGING, {"quality", "errors", "latency"}),
    ],
)
async def test_each_fault_is_blocked_by_a_gate_that_fits_and_no_user_sees_it(fault: Fault, gates: set[str]) -> None:
    world = await promoted()
    stable, written = stable_of(world), len(world.traffic.written)
    result = await drilled(world, fault)
    assert result.passed, result.sentence
    assert result.gate in gates
    assert result.pairs > 0
    assert len(world.traffic.written) == written
    assert_as_before(world, stable)


async def test_a_drill_is_of_the_revision_that_serves_and_not_of_the_newest() -> None:
    world = await promoted()
    await DagRun(world, a_request("20260301t100000-abcdef", "r2", dry_run=True)).run()
    await drilled(world)
    entries = world.ledger.by_release["arithmetic", the_id(Fault.WRONG)]
    planned = next(entry.data for entry in entries if entry.kind == "plan")
    assert planned["revision"]["name"] == "r1"
    assert planned["request"]["drill"] == "wrong"
    assert planned["settings"]["probes_only"] == "1"


async def test_a_fault_that_nobody_notices_fails_its_drill() -> None:
    world = await promoted()
    stable = stable_of(world)
    world.endpoint.heeded = False  # type: ignore[attr-defined]
    result = await drilled(world)
    assert not result.passed
    assert result.sentence.startswith("not blocked, users would have seen it: ")
    assert_as_before(world, stable)


async def test_a_version_that_cannot_start_proves_nothing() -> None:
    world = await promoted()
    stable = stable_of(world)
    ensure = world.workloads.ensure

    async def crashing(spec: Any) -> None:
        world.versions[spec.version].crashed = "it exits with 1"
        await ensure(spec)

    world.workloads.ensure = crashing  # type: ignore[method-assign]
    result = await drilled(world)
    assert (result.passed, result.gate, result.pairs) == (False, "", 0)
    assert result.sentence.startswith("nothing is proven, because it did not come to a verdict: ")
    assert "it exits with 1" in result.sentence
    assert_as_before(world, stable)


async def test_the_wrong_gate_fails_the_drill_although_it_blocked() -> None:
    world = await promoted()
    faulty = world.endpoint
    ask = faulty.ask

    async def also_wrong(prompt: Prompt, role: Role, token: str) -> Answer:
        answer = await ask(prompt, role, token)
        return replace(answer, text="wrong", ttft_seconds=0.01, e2e_seconds=0.05) if role == "canary" else answer

    faulty.ask = also_wrong  # type: ignore[method-assign]
    result = await drilled(world, Fault.SLOW)
    assert (result.passed, result.gate) == (False, "quality")
    assert result.sentence.startswith("blocked, but not by latency: quality: ")


async def test_gates_that_cannot_tell_prove_nothing() -> None:
    world = await promoted()
    world.prompts = world.prompts[:24]
    result = await drilled(world, policy=a_policy(alpha={"rollback": 1e-9, "promote": 0.05}))
    assert not result.passed
    assert result.sentence.startswith("nothing is proven, because the gates could not tell: ")


# --- when there is no drill ------------------------------------------------------------------------------------------


async def test_a_drill_waits_while_a_release_holds_the_model() -> None:
    world = await promoted()
    await world.lease.acquire("a release", timedelta(minutes=5))
    with pytest.raises(LeaseHeld, match="release a release holds the lease"):
        await drilled(world)
    assert world.lease.holder == "a release"
    assert await world.ledger.entries("arithmetic", the_id(Fault.WRONG)) == []


async def test_a_model_that_was_never_released_cannot_be_drilled() -> None:
    with pytest.raises(Refused, match="nothing serves yet"):
        await drilled(World(stable=None))


async def test_a_version_of_unknown_origin_cannot_be_drilled() -> None:
    world = World(stable="by-hand")
    with pytest.raises(Refused, match="the ledger knows no release of version by-hand"):
        await drilled(world)
    assert world.lease.holder == ""


async def test_a_drill_that_no_release_could_be_planned_with_gives_back_the_lease() -> None:
    world = await promoted()
    world.prompts = world.prompts[:2]
    with pytest.raises(BadInput, match="raise the margin or add prompts"):
        await drilled(world)
    assert world.lease.holder == ""


# --- killed ----------------------------------------------------------------------------------------------------------


async def telling_calls(before: World) -> list[int]:
    """Numbers of an unharmed drill's calls; one probe amid the others is like the next."""
    world = copy.deepcopy(before)
    world.wire.new_process()
    await drilled(world)
    pairs = itertools.pairwise(["", *world.wire.calls])
    return [number for number, (last, call) in enumerate(pairs) if call != last or "endpoint" not in call]


async def killed_once(before: World) -> AsyncIterator[World]:
    """Copies of the world in each of which the drill was killed at another call."""
    for number in await telling_calls(before):
        world = copy.deepcopy(before)
        world.wire.new_process(kill_at=number)
        with pytest.raises(Killed), dying():
            await drilled(world)
        world.wire.new_process()
        yield world


@pytest.mark.slow
async def test_a_drill_killed_before_any_of_its_calls_and_tried_again_ends_the_same() -> None:
    before = await promoted()
    stable = stable_of(before)
    async for world in killed_once(before):
        await world.clock.sleep(NOTICED_SECONDS)
        result = await drilled(world)
        assert (result.passed, result.gate) == (True, "quality")
        assert_as_before(world, stable)


@pytest.mark.slow
async def test_a_drill_killed_for_good_leaves_nothing_once_the_teardown_ran() -> None:
    before = await promoted()
    stable = stable_of(before)
    async for world in killed_once(before):
        await world.clock.sleep(NOTICED_SECONDS)
        result = await finish(world.ports, "arithmetic", the_id(Fault.WRONG))
        assert_as_before(world, stable)
        assert result is None or result.passed or result.sentence.startswith("nothing is proven")


@pytest.mark.slow
async def test_the_next_release_takes_back_what_a_killed_drill_left() -> None:
    before = await promoted()
    stable = stable_of(before)
    async for world in killed_once(before):
        await world.clock.sleep(a_policy().lease.total_seconds())
        await DagRun(world, a_request("20260302t100000-abcdef", "r2", dry_run=True)).run()
        assert_as_before(world, stable)


@pytest.mark.slow
async def test_a_drill_whose_answers_get_lost_ends_the_same() -> None:
    before = await promoted()
    stable = stable_of(before)
    for number in await telling_calls(before):
        world = copy.deepcopy(before)
        world.wire.new_process(lose_answer_of=number)
        result = await with_retries("wrong", partial(drilled, world))
        assert (result.passed, result.gate) == (True, "quality")
        assert_as_before(world, stable)


async def test_a_finished_drill_is_not_done_again() -> None:
    world = await promoted()
    first = await drilled(world)
    builds, entries = world.images.builds, len(world.ledger.by_release["arithmetic", the_id(Fault.WRONG)])
    assert await drilled(world) == first
    assert await finish(world.ports, "arithmetic", the_id(Fault.WRONG)) == first
    assert world.images.builds == builds
    assert len(world.ledger.by_release["arithmetic", the_id(Fault.WRONG)]) == entries


# --- what the ledger says of drills ----------------------------------------------------------------------------------


async def test_the_ledger_shows_a_drill_as_a_drill() -> None:
    world = await promoted()
    result = await drilled(world)
    row = summary(world.ledger.by_release["arithmetic", the_id(Fault.WRONG)])
    assert (row["drill"], row["outcome"], row["reason"]) == ("wrong", "drill_passed", result.sentence)
    assert row["steps"] == []


async def test_the_last_drill_of_a_fault_is_the_last_that_passed() -> None:
    world = await promoted()
    await drilled(world)
    world.endpoint.heeded = False  # type: ignore[attr-defined]
    await drilled(world, Fault.SLOW)
    last = await last_drill(world.ledger, "arithmetic")
    assert last.keys() == {Fault.WRONG}
    assert timedelta(0) <= world.clock.now() - last[Fault.WRONG] < timedelta(minutes=10)


def test_a_drills_id_sorts_by_time_and_names_its_fault() -> None:
    ids = [
        drill_id(Fault.SLOW, MORNING, "a"),
        "20260302t090001-abcdef",
        drill_id(Fault.WRONG, MORNING.replace(hour=10), "a"),
    ]
    assert ids == sorted(ids)
    assert [fault_of(release) for release in ids] == [Fault.SLOW, None, Fault.WRONG]
    assert drill_id(Fault.SLOW, MORNING, "a") != drill_id(Fault.SLOW, MORNING, "b")


WEEKLY = a_policy(drill={"max_age": "7d", "faults": ["wrong", "slow"]})


def test_a_policy_that_asks_for_no_drill_gets_none() -> None:
    assert overdue(a_policy(), {}, MORNING) == ""


def test_faults_without_a_drill_within_max_age_are_named_with_their_age_and_the_command() -> None:
    last = {Fault.WRONG: MORNING - timedelta(days=9), Fault.FAILING: MORNING}
    assert overdue(WEEKLY, last, MORNING) == (
        "arithmetic: drill.max_age asks for drills within 7.0 days (wrong: passed 9.0 days ago, slow: never passed); "
        "run: sluice drill arithmetic"
    )


def test_drills_within_max_age_are_enough() -> None:
    assert overdue(WEEKLY, dict.fromkeys((Fault.WRONG, Fault.SLOW), MORNING - timedelta(days=7)), MORNING) == ""


def test_a_late_first_token_is_beyond_the_policys_limit() -> None:
    policy = a_policy()
    late = float(settings_of(policy, Fault.SLOW)["fault"].removeprefix("late:"))
    assert late > policy.gates.latency.ttft.total_seconds()
