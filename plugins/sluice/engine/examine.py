"""examine: paired probes through the gateway by header decide whether users may see the canary at all.

Canary and stable answer the same prompts, interleaved in one run, in an order shuffled with a recorded seed; the
gates look after every pair. A first release has no stable: then the policy's floor and ceilings decide.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from sluice import release as state
from sluice.engine.calibrate import calibrate
from sluice.engine.examination import Examination, Probed, Request
from sluice.engine.fidelity import Divergence, divergences
from sluice.engine.journal import Journal, use_case
from sluice.engine.plan import Plan, prompts_digest
from sluice.engine.writes import restore, transition
from sluice.errors import Refused, RolledBack, SluiceError
from sluice.judge import Outcome, Pair, Verdict, contract
from sluice.policy import CONTRACT_PARTS
from sluice.ports import Answer, Ports, Prompt, Role
from sluice.release import Record

Result = TypeVar("Result")

ROLES: tuple[Role, ...] = ("canary", "stable")
RUBRIC = "rubric"
KEPT_ANSWERS = 50
"""Prompts that changed sides, whose two answers the ledger keeps for the reader."""


@dataclass(frozen=True)
class Asked:
    """One prompt, answered by the canary and, unless this is a first release, by stable."""

    prompt: Prompt
    request: Request
    answers: Mapping[Role, Answer]
    scores: Mapping[Role, float]

    @property
    def pair(self) -> Pair | None:
        """None if stable did not answer: its failure says nothing about the canary's quality, least of all good."""
        if "canary" not in self.scores or ("stable" in self.answers and self.answers["stable"].error):
            return None
        return Pair(self.prompt.id, self.prompt.category, self.scores["canary"], self.scores.get("stable"))

    @property
    def changed_sides(self) -> bool:
        pair = self.pair
        return pair is not None and pair.stable_score is not None and pair.canary_score != pair.stable_score


async def examine(ports: Ports, plan: Plan, epoch: int, root: Path) -> Verdict:
    """The examination's verdict; everything but `non_inferior` rolls back and raises RolledBack."""
    async with use_case(ports, plan, "examine") as journal:
        record = state.fence((await ports.traffic.read()).record, plan.release, epoch)
        prompts = await _shuffled_prompts(ports, plan, root)
        verdict = await _examined(ports, plan, record, prompts, journal)
        if verdict.outcome is not Outcome.non_inferior:
            reason = f"stopped by the examination, before any user saw it: {verdict.sentence}"
            await restore(ports.traffic, ports.clock, plan.release, reason)
            raise RolledBack(reason)
        await transition(ports, plan, epoch, state.examined)
        return verdict


async def _shuffled_prompts(ports: Ports, plan: Plan, root: Path) -> Sequence[Prompt]:
    prompts = list(await ports.prompts(root / plan.policy.gates.quality.prompts))
    if prompts_digest(prompts) != plan.prompts_digest:
        raise Refused(
            f"{plan.policy.gates.quality.prompts} changed after the release was planned; trigger a new release for it"
        )
    random.Random(plan.release).shuffle(prompts)
    return prompts


async def _examined(ports: Ports, plan: Plan, record: Record, prompts: Sequence[Prompt], journal: Journal) -> Verdict:
    infos = {role: dict(await ports.endpoint.model_info(role, record.token)) for role in _roles(record)}
    promised = contract(infos["canary"], infos.get("stable"), CONTRACT_PARTS, plan.policy.gates.contract.forbid)
    await journal.note("contract", {"infos": infos, "verdict": promised.to_record()})
    calibration = await calibrate(ports, plan, record, journal)
    examination = Examination.of(plan.policy, [prompt.category for prompt in prompts], calibration, promised)
    asked: list[Asked] = []
    compared: Sequence[Divergence] = []
    if not examination.decided:
        examination = await _with_lease(ports, plan, _pairs(ports, plan, record, prompts, examination, asked))
    if examination.verdict.outcome is not Outcome.regression:  # else it would only keep a bad version for longer
        compared = await _with_lease(ports, plan, divergences(ports, plan, record, prompts, infos))
        examination = examination.compare(one.nats_per_token for one in compared)
    scorers = ports.scorer_versions(prompts)
    await journal.note("examined", _evidence(plan, prompts, examination, asked, compared) | {"scorers": dict(scorers)})
    return examination.verdict


def _roles(record: Record) -> Sequence[Role]:
    return ROLES[:1] if record.first else ROLES


async def _pairs(
    ports: Ports,
    plan: Plan,
    record: Record,
    prompts: Sequence[Prompt],
    examination: Examination,
    asked: list[Asked],
) -> Examination:
    """Ask, several prompts at once, until the gates have their verdict or the prompts are used up."""
    queue = iter(prompts)
    rng = random.Random(f"{plan.release}/order")

    async def worker() -> None:
        nonlocal examination
        for prompt in queue:
            if examination.decided:
                return
            one = await _ask(ports, plan, record, prompt, rng)
            if examination.decided:
                return
            asked.append(one)
            examination = examination.observe(one.request, one.pair)

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.policy.gates.quality.concurrency):
            group.create_task(worker())
    return examination


async def _with_lease(ports: Ports, plan: Plan, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work while the lease is renewed. Raises what the work raises, or Superseded."""

    async def renewing(working: asyncio.Task[Result]) -> None:
        while not working.done():
            await ports.lease.renew(plan.release)
            await asyncio.wait([working], timeout=plan.policy.lease.total_seconds() / 5)

    failures: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            group.create_task(renewing(working))
    except* SluiceError as errors:
        failures.extend(_leaves(errors))
    if failures:
        raise failures[0]
    return working.result()


def _leaves(group: BaseExceptionGroup[SluiceError]) -> Iterator[SluiceError]:
    """The errors themselves; the workers' group may stand within the lease's."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _ask(ports: Ports, plan: Plan, record: Record, prompt: Prompt, rng: random.Random) -> Asked:
    roles = list(_roles(record))
    rng.shuffle(roles)
    answers = {role: await ports.endpoint.ask(prompt, role, record.token) for role in roles}
    request = Request(
        prompt.id,
        prompt.category,
        {role: Probed.of(answer, ports.events(prompt, answer)) for role, answer in answers.items()},
    )
    return Asked(prompt, request, answers, await _scores(ports, plan, prompt, answers))


async def _scores(ports: Ports, plan: Plan, prompt: Prompt, answers: Mapping[Role, Answer]) -> Mapping[Role, float]:
    """Score by role; a failed answer has none of what was asked for. Empty where a judge model says nothing."""
    failed = {role: 0.0 for role, answer in answers.items() if answer.error}
    if prompt.scorer != RUBRIC:
        return failed | {
            role: await ports.score(prompt, answer.text) for role, answer in answers.items() if role not in failed
        }
    rubric = plan.policy.gates.quality.rubric
    if rubric is None or "stable" not in answers:
        return {}
    if failed:
        return dict.fromkeys(answers, 1.0) | failed
    judged = await ports.compare(rubric, prompt, answers["canary"].text, answers["stable"].text)
    return dict(zip(ROLES, judged, strict=True)) if judged else {}


def _evidence(
    plan: Plan,
    prompts: Sequence[Prompt],
    examination: Examination,
    asked: Sequence[Asked],
    compared: Sequence[Divergence],
) -> dict[str, Any]:
    """What the ledger keeps: every pair in the order in which the gates saw it, and the answers that changed sides."""
    changed = [one for one in asked if one.changed_sides]
    return {
        "verdict": examination.verdict.to_record(),
        "verdicts": [verdict.to_record() for verdict in examination.verdicts],
        "seed": plan.release,
        "categories": sorted({prompt.category for prompt in prompts}),
        "pairs": [list(astuple(one.pair)) for one in asked if one.pair is not None],
        "requests": [one.request.to_record() for one in asked],
        "unscored": [one.prompt.id for one in asked if one.pair is None],
        "fidelity": [list(one) for one in compared],
        "changed_sides": [
            {
                "prompt": vars(one.prompt),
                "answers": {role: vars(answer) for role, answer in one.answers.items()},
                "scores": dict(one.scores),
            }
            for one in changed[:KEPT_ANSWERS]
        ],
        "probes": {role: _probes([one.answers[role] for one in asked if role in one.answers]) for role in ROLES},
    }


def _probes(answers: Sequence[Answer]) -> dict[str, Any]:
    """How one version answered: counts, and medians in seconds."""
    whole = [answer for answer in answers if not answer.error]
    tpots = [answer.tpot_seconds for answer in whole if answer.tpot_seconds is not None]
    return {
        "asked": len(answers),
        "errors": Counter(answer.error for answer in answers if answer.error),
        "ttft_p50_seconds": median([answer.ttft_seconds for answer in whole]) if whole else None,
        "tpot_p50_seconds": median(tpots) if tpots else None,
        "e2e_p50_seconds": median([answer.e2e_seconds for answer in whole]) if whole else None,
    }
