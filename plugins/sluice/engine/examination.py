"""What the examination's probes say: a fold over pairs of answers, and the same fold over what the ledger kept. Pure.

Each prompt is one window of the gates of bad events: both versions answered it one after the other, so the length of
the prompt, the time of day and the load are the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from sluice.engine.gates import (
    PROBES,
    Calibration,
    fidelity_gate,
    probes_behaviour_gate,
    probes_latency_gate,
    quality_gate,
)
from sluice.judge import (
    Answers,
    Arm,
    Arms,
    BehaviourGate,
    BehaviourWindow,
    FidelityGate,
    LatencyGate,
    LatencyWindow,
    Outcome,
    Pair,
    QualityGate,
    Verdict,
)
from sluice.policy import ReleasePolicy
from sluice.ports import Answer, Role

NO_REQUEST = Arm(0, 0)
LEAST_PROMPTS = 50
"""A wide quality margin is shown within ten prompts; the gates that can only object need about 20 to find a version
that is always slow or always odd, and 50 for one that is so half of the time."""


@dataclass(frozen=True)
class Probed:
    """What is judged of one version's answer to one prompt. Times in seconds."""

    ttft: float
    tpot: float | None
    e2e: float
    prompt_tokens: int
    completion_tokens: int
    events: tuple[str, ...]
    error: str

    @classmethod
    def of(cls, answer: Answer, events: Iterable[str]) -> Self:
        return cls(
            answer.ttft_seconds,
            answer.tpot_seconds,
            answer.e2e_seconds,
            answer.prompt_tokens,
            answer.completion_tokens,
            tuple(sorted(events)),
            answer.error,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{**record, "events": tuple(record["events"])})

    def arm(self, metric: str, limit_seconds: float) -> Arm:
        """One request, slow or not. A failed one has no times, unless it failed by being late."""
        seconds = getattr(self, metric)
        if seconds is None or (self.error and (metric != "e2e" or seconds <= limit_seconds)):
            return NO_REQUEST
        return Arm(1, int(seconds > limit_seconds))

    @property
    def answers(self) -> Answers:
        return Answers(0, {}) if self.error else Answers(1, dict.fromkeys(self.events, 1))


@dataclass(frozen=True)
class Request:
    """One prompt's answers, by role."""

    prompt_id: str
    category: str
    probed: Mapping[Role, Probed]

    def to_record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"prompt": self.prompt_id, "category": self.category}
        for role, probed in self.probed.items():
            record[role] = vars(probed) | {"events": list(probed.events)}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        roles: tuple[Role, ...] = ("canary", "stable")
        probed = {role: Probed.from_record(record[role]) for role in roles if role in record}
        return cls(record["prompt"], record["category"], probed)


@dataclass(frozen=True)
class Examination:
    """The gates of the examination and what they saw so far."""

    limits_seconds: Mapping[str, float]
    contract: Verdict | None
    quality: QualityGate
    latency: LatencyGate
    behaviour: BehaviourGate
    fidelity: FidelityGate
    prompts: int = 0

    @classmethod
    def of(
        cls, policy: ReleasePolicy, categories: Iterable[str], calibration: Calibration, contract: Verdict | None
    ) -> Self:
        return cls(
            policy.gates.latency.limits_seconds,
            contract,
            quality_gate(policy, categories),
            probes_latency_gate(policy, calibration),
            probes_behaviour_gate(policy),
            fidelity_gate(policy),
        )

    def observe(self, request: Request, pair: Pair | None) -> Self:
        """`pair` is None if the prompt has no scores: stable did not answer, or nothing can score it alone."""
        canary, stable = request.probed["canary"], request.probed.get("stable")
        metrics = {
            metric: {PROBES: Arms(canary.arm(metric, limit), stable.arm(metric, limit) if stable else None)}
            for metric, limit in self.limits_seconds.items()
        }
        return replace(
            self,
            prompts=self.prompts + 1,
            quality=self.quality.observe(pair) if pair else self.quality,
            latency=self.latency.observe(LatencyWindow(0, metrics)),
            behaviour=self.behaviour.observe(
                BehaviourWindow(0, _asked(canary, self.behaviour), _asked(stable, self.behaviour) if stable else None)
            ),
        )

    def compare(self, divergences: Iterable[float]) -> Self:
        """Log-probability differences of whole prompts, in nats per token."""
        fidelity = self.fidelity
        for divergence in divergences:
            fidelity = fidelity.observe(divergence)
        return replace(self, fidelity=fidelity)

    @property
    def verdicts(self) -> Sequence[Verdict]:
        contract = [self.contract] if self.contract else []
        gates = (self.quality, self.latency, self.behaviour, self.fidelity)
        return [*contract, *(gate.verdict() for gate in gates)]

    @property
    def verdict(self) -> Verdict:
        """A regression of any gate, else what quality says: it alone can show that nothing got worse."""
        regressions = [verdict for verdict in self.verdicts if verdict.outcome is Outcome.regression]
        return regressions[0] if regressions else self.quality.verdict()

    @property
    def decided(self) -> bool:
        """No further prompt is needed."""
        outcome = self.verdict.outcome
        return outcome is Outcome.regression or (outcome is Outcome.non_inferior and self.prompts >= LEAST_PROMPTS)


def _asked(probed: Probed, gate: BehaviourGate) -> Answers:
    """The answer with the events that the policy asks about."""
    answers = probed.answers
    return Answers(answers.completed, {name: count for name, count in answers.events.items() if name in gate.events})


def refold(policy: ReleasePolicy, calibration: Calibration, examined: Mapping[str, Any]) -> Examination:
    """The examination as its ledger entry tells it; the same pairs in the same order."""
    contract = next((Verdict.from_record(one) for one in examined["verdicts"] if one["gate"] == "contract"), None)
    pairs = {prompt_id: Pair(prompt_id, *rest) for prompt_id, *rest in examined["pairs"]}
    examination = Examination.of(policy, examined["categories"], calibration, contract)
    for record in examined["requests"]:
        request = Request.from_record(record)
        examination = examination.observe(request, pairs.get(request.prompt_id))
    return examination.compare(divergence for _, divergence, _ in examined["fidelity"])
