"""examine: paired probes through the gateway by header decide whether users may see the canary at all.

Canary and stable answer the same prompts, interleaved in one run, in an order shuffled with a recorded seed; the
quality gate looks after every pair. A first release has no stable: then the policy's floor decides.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sluice import release as state
from sluice.engine.evidence import quality_gate
from sluice.engine.journal import Journal, use_case
from sluice.engine.plan import Plan, prompts_digest
from sluice.engine.writes import restore, transition
from sluice.errors import Refused, RolledBack, SluiceError
from sluice.judge import Outcome, Pair, QualityGate, Verdict
from sluice.ports import Answer, Ports, Prompt, Role
from sluice.release import Record

ROLES: tuple[Role, ...] = ("canary", "stable")
KEPT_ANSWERS = 50
"""Prompts that changed sides, whose two answers the ledger keeps for the reader."""


@dataclass(frozen=True)
class Asked:
    """One prompt, answered by the canary and, unless this is a first release, by stable."""

    prompt: Prompt
    answers: Mapping[Role, Answer]
    scores: Mapping[Role, float]

    @property
    def pair(self) -> Pair | None:
        """None if stable did not answer: its failure says nothing about the canary's quality, least of all good."""
        if "stable" in self.answers and self.answers["stable"].error:
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
        await _contract(ports, record, journal)
        verdict = await _pairs(ports, plan, record, prompts, journal)
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


async def _contract(ports: Ports, record: Record, journal: Journal) -> None:
    """Note what the two versions say of themselves, and every difference."""
    roles: list[Role] = ["canary"] if record.first else ["canary", "stable"]
    infos = {role: dict(await ports.endpoint.model_info(role, record.token)) for role in roles}
    if "stable" in infos:
        names = sorted(infos["canary"].keys() | infos["stable"].keys())
        differs = [name for name in names if infos["canary"].get(name) != infos["stable"].get(name)]
        await journal.note("contract", {"infos": infos, "differs": differs})
    else:
        await journal.note("contract", {"infos": infos, "differs": []})


async def _pairs(ports: Ports, plan: Plan, record: Record, prompts: Sequence[Prompt], journal: Journal) -> Verdict:
    """Ask until the gate has its verdict or the prompts are used up."""
    gate = quality_gate(plan.policy, (prompt.category for prompt in prompts))
    asked: list[Asked] = []
    queue = iter(prompts)
    rng = random.Random(f"{plan.release}/order")
    decided = asyncio.Event()

    async def worker() -> None:
        nonlocal gate
        for prompt in queue:
            if decided.is_set():
                return
            one = await _ask(ports, record, prompt, rng)
            if decided.is_set():
                return
            asked.append(one)
            if one.pair is not None:
                gate = gate.observe(one.pair)
            if gate.verdict().outcome in (Outcome.regression, Outcome.non_inferior):
                decided.set()

    failures: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(worker()) for _ in range(plan.policy.gates.quality.concurrency)]
            group.create_task(_keep_lease(ports, plan, workers))
    except* SluiceError as errors:
        failures.extend(errors.exceptions)
    if failures:
        raise failures[0]
    verdict = gate.verdict()
    await journal.note("examined", _evidence(plan, verdict, asked))
    return verdict


async def _keep_lease(ports: Ports, plan: Plan, workers: Sequence[asyncio.Task[None]]) -> None:
    while not all(worker.done() for worker in workers):
        await ports.lease.renew(plan.release)
        await asyncio.wait(workers, timeout=plan.policy.lease.total_seconds() / 5)


async def _ask(ports: Ports, record: Record, prompt: Prompt, rng: random.Random) -> Asked:
    roles: list[Role] = ["canary"] if record.first else ["canary", "stable"]
    rng.shuffle(roles)
    answers = {role: await ports.endpoint.ask(prompt, role, record.token) for role in roles}
    scores = {role: 0.0 if answer.error else ports.score(prompt, answer.text) for role, answer in answers.items()}
    return Asked(prompt, answers, scores)


def _evidence(plan: Plan, verdict: Verdict, asked: Sequence[Asked]) -> dict[str, Any]:
    """What the ledger keeps: every pair in the order in which the gate saw it, and the answers that changed sides."""
    changed = [one for one in asked if one.changed_sides]
    return {
        "verdict": verdict.to_record(),
        "seed": plan.release,
        "pairs": [list(astuple(one.pair)) for one in asked if one.pair is not None],
        "changed_sides": [
            {"prompt": vars(one.prompt), "answers": {role: vars(answer) for role, answer in one.answers.items()}}
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


def replay(policy_gate: QualityGate, pairs: Sequence[Sequence[Any]]) -> Verdict:
    """The quality verdict, folded again from the ledger's pairs."""
    for prompt_id, category, canary, stable in pairs:
        policy_gate = policy_gate.observe(Pair(prompt_id, category, canary, stable))
    return policy_gate.verdict()
