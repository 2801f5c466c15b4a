"""The gates as a policy configures them: for the examination's paired probes, and for users' requests on the ladder.

Both ask for latency and behaviour, each at its own share of α, so that together they keep the release's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sluice.judge import (
    NOT_MEASURED,
    AlphaSplit,
    BehaviourGate,
    Dispersion,
    ErrorsGate,
    FidelityGate,
    LatencyGate,
    QualityGate,
)
from sluice.policy import ReleasePolicy

PROBES = "probes"
"""The one stratum of paired probes: the same prompt to both versions needs no other."""
METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True)
class Calibration:
    """How bursty stable's bad events were between its own pods, before the release."""

    errors: Dispersion = NOT_MEASURED
    latency: Dispersion = NOT_MEASURED
    behaviour: Dispersion = NOT_MEASURED

    def to_record(self) -> dict[str, Any]:
        return {
            name: {"factor": found.factor, "events": found.events}
            for name, found in (("errors", self.errors), ("latency", self.latency), ("behaviour", self.behaviour))
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{name: Dispersion(found["factor"], found["events"]) for name, found in record.items()})


UNMEASURED = Calibration()


def alpha_split(policy: ReleasePolicy) -> AlphaSplit:
    """The shares of the policy's error rates; a fidelity limit takes its part of quality's."""
    return AlphaSplit(
        rollback=policy.alpha.rollback,
        promote=policy.alpha.promote,
        fidelity=policy.gates.fidelity.limit is not None,
    )


# --- the examination -------------------------------------------------------------------------------------------------


def quality_gate(policy: ReleasePolicy, categories: Iterable[str]) -> QualityGate:
    """Scores of the same prompts."""
    quality, alpha = policy.gates.quality, alpha_split(policy)
    return QualityGate(
        margin=quality.margin,
        floor=quality.floor,
        categories=tuple(sorted(set(categories))),
        alpha_regression=alpha.quality,
        alpha_category=alpha.category,
        alpha_promote=alpha.promote,
    )


def probes_latency_gate(policy: ReleasePolicy, calibration: Calibration) -> LatencyGate:
    """Times of the same prompts, pair by pair; only a regression counts."""
    latency, alpha = policy.gates.latency, alpha_split(policy)
    return LatencyGate(
        strata={metric: (PROBES,) for metric in METRICS},
        margin=latency.margin,
        ceiling=latency.ceiling,
        steps=0,
        kappa=calibration.latency.kappa,
        kappa_promote=calibration.latency.kappa,
        alpha_regression=alpha.latency_examination,
        alpha_promote=alpha.promote,
    )


def probes_behaviour_gate(policy: ReleasePolicy) -> BehaviourGate:
    """What the answers to the same prompts are like."""
    behaviour = policy.gates.behaviour
    return BehaviourGate(
        events=behaviour.events,
        steps=0,
        max_ratio=behaviour.max_ratio,
        alpha_regression=alpha_split(policy).behaviour_examination,
    )


def fidelity_gate(policy: ReleasePolicy) -> FidelityGate:
    """Log-probabilities of the same texts."""
    return FidelityGate(policy.gates.fidelity.limit, alpha_regression=alpha_split(policy).fidelity_examination)


# --- the ladder ------------------------------------------------------------------------------------------------------


def errors_gate(policy: ReleasePolicy, calibration: Calibration) -> ErrorsGate:
    """Users' failed requests."""
    errors, alpha = policy.gates.errors, alpha_split(policy)
    return ErrorsGate(
        max_ratio=errors.max_ratio,
        margin=errors.margin,
        floor=errors.floor,
        min_excess=errors.min_excess,
        steps=len(policy.steps),
        kappa=calibration.errors.kappa_errors,
        kappa_promote=calibration.errors.kappa,
        alpha_regression=alpha.errors,
        alpha_floor=alpha.floor,
        alpha_promote=alpha.promote,
    )


def latency_gate(policy: ReleasePolicy, strata: Mapping[str, Sequence[str]], calibration: Calibration) -> LatencyGate:
    """Users' slow requests, by the length classes that the servers announced."""
    latency, alpha = policy.gates.latency, alpha_split(policy)
    return LatencyGate(
        strata={metric: tuple(names) for metric, names in strata.items()},
        margin=latency.margin,
        ceiling=latency.ceiling,
        steps=len(policy.steps),
        kappa=calibration.latency.kappa,
        kappa_promote=calibration.latency.kappa,
        alpha_regression=alpha.latency,
        alpha_promote=alpha.promote,
    )


def behaviour_gate(policy: ReleasePolicy, counted: Collection[str], calibration: Calibration) -> BehaviourGate | None:
    """What users' answers are like, by the events that the servers count; None if they count none."""
    behaviour = policy.gates.behaviour
    events = tuple(event for event in behaviour.events if event in counted)
    if not events:
        return None
    return BehaviourGate(
        events=events,
        steps=len(policy.steps),
        max_ratio=behaviour.max_ratio,
        kappa=calibration.behaviour.kappa,
        alpha_regression=alpha_split(policy).behaviour,
    )
