"""A process may die before any of its calls, and any answer may be lost: the release ends as if nothing had been."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.engine.settle import Conclusion
from sluice.errors import RetryLater, RolledBack
from sluice.release import Phase
from tests.fakes import Behaviour, Killed, World
from tests.unit.engine.dag_run import Attempt, DagRun, with_retries

NOTICED_SECONDS = 3.0
"""Until Airflow starts a dead task again; less than the lease."""
SCENARIOS = {
    "promoted": (Behaviour(), [20, 50, 90, 100], Phase.COMMITTED),
    "rolled back at step 2": (Behaviour(failing=0.6, fails_from_weight=50), [20, 50, 0], Phase.ROLLED_BACK),
    "blocked": (Behaviour(correct=0.4), [], Phase.ROLLED_BACK),
}


async def planned(behaviour: Behaviour, world: World | None = None) -> DagRun:
    """A release of a version that behaves like this, before its task `build`."""
    run = DagRun(world or World())
    await run.up_to("plan")
    assert run.plan is not None
    run.world.versions[run.plan.version] = behaviour
    return run


async def outcome_of(run: DagRun) -> tuple[list[int], Phase]:
    """The canary's weights, in the order in which they were written, and the phase in which the release was closed."""
    assert run.plan is not None
    world, canary = run.world, run.plan.version
    conclusion = await run.run()
    assert isinstance(conclusion, Conclusion | RolledBack), conclusion
    assert world.record.closed
    assert world.lease.holder == ""
    assert world.traffic.weights == {canary if world.record.phase is Phase.COMMITTED else "old": 100}
    assert world.workloads.specs.keys() == world.traffic.weights.keys()
    assert all(sum(weights.values()) == 100 for _, weights in world.traffic.written)
    return [weights.get(canary, 0) for _, weights in world.traffic.written], world.record.phase


@contextmanager
def dying() -> Iterator[None]:
    """A process with several tasks dies once."""
    try:
        yield
    except BaseExceptionGroup as group:
        if group.subgroup(Killed) is None:
            raise
        raise Killed from group


class Deadly:
    """Kills the process of one task before its `number`-th call; the task is then run again."""

    def __init__(self, world: World, task: str, number: int) -> None:
        self.world, self.task, self.number, self.died = world, task, number, False

    async def play(self, task: str, attempt: Attempt) -> Any:
        if task == self.task:
            self.world.wire.new_process(kill_at=self.number)
            try:
                with dying():
                    return await attempt()
            except Killed:
                self.died = True
                await self.world.clock.sleep(NOTICED_SECONDS)
            finally:
                self.world.wire.new_process()
        return await with_retries(task, attempt)


async def killed_in(task: str, run: DagRun) -> AsyncIterator[DagRun]:
    """Copies of the run, each of which will be killed at another call of the task."""
    for number in range(1000):
        again = copy.deepcopy(run)
        deadly = Deadly(again.world, task, number)
        again.play = deadly.play
        yield again
        if not deadly.died:
            return
    pytest.fail(f"{task} never came to its end unharmed")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_release_killed_before_any_of_its_calls_ends_the_same(name: str) -> None:
    behaviour, weights, phase = SCENARIOS[name]
    run = await planned(behaviour)
    for task, _ in run.tasks():
        async for again in killed_in(task, run):
            assert await outcome_of(again) == (weights, phase), task
        try:
            await run.up_to(task)
        except RolledBack:
            break


@pytest.mark.parametrize("task", ["settle", "conclude"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_release_killed_at_its_end_ends_the_same(name: str, task: str) -> None:
    behaviour, weights, phase = SCENARIOS[name]
    run = await planned(behaviour)
    with suppress(RolledBack):
        await run.up_to("soak")
    run.done = [name for name, _ in run.tasks()]
    async for again in killed_in(task, run):
        assert await outcome_of(again) == (weights, phase)


class Misfortune:
    """Each attempt meets the next fate: its process dies at a call, or the answer of a call is lost."""

    def __init__(self, world: World, fates: Sequence[tuple[str, int]]) -> None:
        self.world, self.fates = world, iter(fates)

    async def play(self, task: str, attempt: Attempt) -> Any:
        for kind, call in self._upcoming():
            if kind == "dies":
                self.world.wire.new_process(kill_at=call)
            else:
                self.world.wire.new_process(lose_answer_of=call)
            try:
                with dying():
                    return await attempt()
            except (Killed, RetryLater):
                await self.world.clock.sleep(NOTICED_SECONDS)
        self.world.wire.new_process()
        return await with_retries(task, attempt)

    def _upcoming(self) -> Iterator[tuple[str, int]]:
        yield from self.fates


fates = st.lists(st.tuples(st.sampled_from(["dies", "answer lost"]), st.integers(0, 30)), max_size=12)


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=40, deadline=None)
@given(fates=fates)
async def test_no_row_of_deaths_and_lost_answers_changes_the_end(name: str, fates: list[tuple[str, int]]) -> None:
    behaviour, weights, phase = SCENARIOS[name]
    run = await planned(behaviour)
    run.play = Misfortune(run.world, fates).play
    assert await outcome_of(run) == (weights, phase)
