"""Plays Airflow: runs a release's use cases in the DAG's order, at least once each, teardowns whatever happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice import policy
from sluice.engine.deploy import begin, build, deploy
from sluice.engine.examine import examine
from sluice.engine.ladder import promote, shift, watch
from sluice.engine.plan import Plan, Request, plan
from sluice.engine.settle import Conclusion, conclude, settle
from sluice.errors import RetryLater, SluiceError
from sluice.policy import ReleasePolicy
from sluice.release import Record
from tests.fakes import MORNING, World

ROOT = Path("project")
RETRIES = 8
POLICY = """
model: arithmetic
source: dir://models/arithmetic
image: {repository: registry.example.com/arithmetic}
serving: {namespace: ai, host: api.example.com, replicas: 1, settings: {max_batch: 4}}
steps:
  - {weight: 20, hold: 10s, requests: 20}
  - {weight: 50, hold: 10s, requests: 20}
gates:
  quality: {prompts: prompts/arithmetic.jsonl, margin: 0.3, floor: 0.6, concurrency: 4}
  errors: {margin: 0.1}
  latency: {margin: 0.1}
  fidelity: {prompts: 5}
tick: 5s
max_hold: 5m
soak: 20s
lease: 30s
deadlines: {ready: 20s, drain: 10s}
data: {missing: {after: 20s, then: roll_back}}
"""


def a_policy(**changes: Any) -> ReleasePolicy:
    """The policy above; `changes` replace whole fields, in the policy's own notation."""
    written = policy.parse(POLICY, "releases/arithmetic.yaml").model_dump(mode="json")
    return ReleasePolicy.model_validate(written | changes)


def a_request(release: str = "rel-1", revision: str = "r2", *, dry_run: bool = False) -> Request:
    return Request(release, revision, "a test", "somebody", MORNING, dry_run)


Attempt = Callable[[], Awaitable[Any]]
"""One run of one task, to its end."""
Play = Callable[[str, Attempt], Awaitable[Any]]
"""How Airflow runs a task, by its name."""


async def with_retries(task: str, attempt: Attempt) -> Any:
    """What may work soon is tried again; verdicts and refusals are not."""
    for _ in range(RETRIES):
        try:
            return await attempt()
        except RetryLater:
            continue
    return await attempt()


@dataclass
class DagRun:
    """One run of a release DAG. `before`: what a person or fate does when a task is about to start."""

    world: World
    request: Request = field(default_factory=a_request)
    policy: ReleasePolicy = field(default_factory=a_policy)
    play: Play = with_retries
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    failed: str = ""
    """The task that failed, with its error."""
    done: list[str] = field(default_factory=list)
    plan: Plan | None = None
    begun: Record | None = None

    async def run(self) -> Conclusion | SluiceError:
        """The conclusion, or the error that the run's last task ended with."""
        try:
            await self.up_to("soak")
        except SluiceError as error:
            self.failed = f"{self.failed}: {error}"
            if self.begun is None:
                return error
        return await self.teardown()

    async def up_to(self, last: str) -> None:
        """The tasks that are still to be done, up to the one called `last`; teardowns are none of them."""
        for name, attempt in self.tasks():
            if name not in self.done:
                self.failed = name
                self.before.get(name, lambda: None)()
                await self.play(name, attempt)
                self.done.append(name)
            if name == last:
                break
        self.failed = ""

    async def teardown(self) -> Conclusion | SluiceError:
        assert self.plan is not None
        planned = self.plan
        try:
            await self.play("settle", lambda: settle(self.world.ports, planned))
            conclusion = await self.play("conclude", lambda: conclude(self.world.ports, planned))
        except SluiceError as error:
            return error
        assert isinstance(conclusion, Conclusion)
        return conclusion

    def tasks(self) -> list[tuple[str, Attempt]]:
        steps = range(len(self.policy.steps))
        ladder = [
            task
            for step in steps
            for task in ((f"shift {step}", self._shift(step)), (f"watch {step}", self._watch(step)))
        ]
        before: list[tuple[str, Attempt]] = [("plan", self._plan), ("build", self._build), ("begin", self._begin)]
        before += [("deploy", self._deploy), ("examine", self._examine)]
        if self.request.dry_run:
            return before
        return [*before, *ladder, ("promote", self._promote), ("soak", self._watch(len(self.policy.steps)))]

    async def _plan(self) -> None:
        self.plan = await plan(self.world.ports, self.policy, self.request, ROOT)

    async def _build(self) -> None:
        assert self.plan is not None
        await build(self.world.ports, self.plan, ROOT, lambda line: None)

    async def _begin(self) -> None:
        assert self.plan is not None
        self.begun = await begin(self.world.ports, self.plan, "token")

    async def _deploy(self) -> None:
        plan, epoch = self._open()
        await deploy(self.world.ports, plan, epoch, self.world.images.built[plan.version])

    async def _examine(self) -> None:
        plan, epoch = self._open()
        await examine(self.world.ports, plan, epoch, ROOT)

    async def _promote(self) -> None:
        plan, epoch = self._open()
        await promote(self.world.ports, plan, epoch)

    def _shift(self, step: int) -> Attempt:
        async def attempt() -> Any:
            plan, epoch = self._open()
            return await shift(self.world.ports, plan, epoch, step)

        return attempt

    def _watch(self, step: int) -> Attempt:
        async def attempt() -> Any:
            plan, epoch = self._open()
            return await watch(self.world.ports, plan, epoch, step)

        return attempt

    def _open(self) -> tuple[Plan, int]:
        assert self.plan is not None
        assert self.begun is not None
        return self.plan, self.begun.epoch
