"""What each task of a release DAG does: find its release, call one use case, return something small.

Adapters are imported by `sluice.assembly` when a task runs, never when a DAG file is parsed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sluice import assembly, policy
from sluice.assembly import Opened
from sluice.engine import deploy, examine, ladder, plan, settle
from sluice.errors import Refused
from sluice.settings import Settings


@dataclass(frozen=True)
class Run:
    """The run that a task belongs to, free of Airflow's types."""

    model: str
    release: str
    triggered_at: datetime
    requested_by: str
    params: Mapping[str, Any]
    epoch: int | None
    """Epoch that `begin` got; None before it."""
    image: str | None


def release_id(dag_id: str, run_id: str, run_after: datetime) -> str:
    """The same for every attempt of one run; sorts by time."""
    return f"{run_after:%Y%m%dt%H%M%S}-{hashlib.sha256(f'{dag_id}/{run_id}'.encode()).hexdigest()[:6]}"


async def plan_task(run: Run, policy_file: Path, log: Callable[[str], None], where: Settings) -> dict[str, Any]:
    """Reads the policy file; every later task works from the pinned plan."""
    request = plan.Request(
        run.release,
        run.params["revision"],
        run.params["reason"],
        run.requested_by,
        run.triggered_at,
        run.params.get("dry_run", False),
    )
    chosen = policy.read(policy_file)
    async with assembly.ports_for(where, chosen) as ports:
        planned = await plan.plan(ports, chosen, request, where.root)
    log(f"release {planned.release}: {planned.model} {request.revision} is version {planned.version}")
    if planned.nothing_to_do:
        log(planned.nothing_to_do_sentence)
    return {"release": planned.release, "version": planned.version, "nothing_to_do": planned.nothing_to_do}


async def build_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> str:
    return await deploy.build(opened.ports, opened.plan, opened.root, log)


async def begin_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> dict[str, Any]:
    record = await deploy.begin(opened.ports, opened.plan)
    log(f"last good is version {record.last_good}")
    return {"epoch": record.epoch, "last_good": record.last_good}


async def deploy_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> None:
    assert run.image is not None
    await deploy.deploy(opened.ports, opened.plan, _epoch(run), run.image)
    log(f"version {opened.plan.version} is ready; probes reach it, users do not")


async def examine_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> str:
    verdict = await examine.examine(opened.ports, opened.plan, _epoch(run), opened.root)
    log(verdict.sentence)
    return verdict.sentence


async def shift_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> dict[str, int]:
    assert step is not None
    weights = await ladder.shift(opened.ports, opened.plan, _epoch(run), step)
    log(f"weights are {dict(weights)}")
    return dict(weights)


async def watch_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> str:
    """Runs in the triggerer (`WatchTrigger`)."""
    at = len(opened.plan.policy.steps) if step is None else step
    decision = await ladder.watch(opened.ports, opened.plan, _epoch(run), at, log)
    return decision.sentence


async def promote_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> dict[str, int]:
    weights = await ladder.promote(opened.ports, opened.plan, _epoch(run))
    log(f"weights are {dict(weights)}")
    return dict(weights)


async def settle_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> str:
    record = await settle.settle(opened.ports, opened.plan)
    if record is None:
        log("the release never touched the traffic: nothing to settle")
        return "nothing to settle"
    log(f"settled: {record.phase.value} {record.reason}")
    return record.phase.value


async def conclude_task(opened: Opened, run: Run, step: int | None, log: Callable[[str], None]) -> dict[str, Any]:
    conclusion = await settle.conclude(opened.ports, opened.plan, log)
    log(conclusion.sentence)
    return conclusion.to_record()


UseCase = Callable[[Opened, Run, int | None, Callable[[str], None]], Awaitable[Any]]

USE_CASES: Mapping[str, UseCase] = {
    "build": build_task,
    "begin": begin_task,
    "deploy": deploy_task,
    "examine": examine_task,
    "shift": shift_task,
    "watch": watch_task,
    "promote": promote_task,
    "settle": settle_task,
    "conclude": conclude_task,
}


async def perform(use_case: str, run: Run, step: int | None, log: Callable[[str], None], where: Settings) -> Any:
    """Call a use case with the plan that the release was opened with."""
    async with assembly.opened(where, run.model, run.release) as opened:
        return await USE_CASES[use_case](opened, run, step, log)


def _epoch(run: Run) -> int:
    if run.epoch is None:
        raise Refused(f"release {run.release}: the task begin left no epoch; clear the run from its task begin on")
    return run.epoch
