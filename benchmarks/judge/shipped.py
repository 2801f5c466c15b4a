"""The gates as they are shipped: those of a policy that leaves every default as it is."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sluice.engine.gates import (
    UNMEASURED,
    Calibration,
    alpha_split,
    behaviour_gate,
    errors_gate,
    latency_gate,
    quality_gate,
)
from sluice.judge import (
    BehaviourGate,
    BehaviourWindow,
    ErrorsGate,
    LatencyGate,
    LatencyWindow,
    Outcome,
    QualityGate,
    ShareGate,
    StartedWindow,
    Window,
)
from sluice.policy import ReleasePolicy
from sluice.policy.gates import Gates as GatesPolicy
from sluice.policy.gates import Quality
from sluice.policy.model import Image, Serving

POLICY = ReleasePolicy(
    model="simulated",
    source="dir://simulated",
    image=Image(repository="registry.example.com/simulated"),
    serving=Serving(namespace="simulated", host="simulated.example.com"),
    gates=GatesPolicy(quality=Quality(prompts=Path("simulated.jsonl"))),
)
ALPHA = alpha_split(POLICY)
METRICS = tuple(POLICY.gates.latency.limits_seconds)
STRATA = ("short", "medium", "long")
SOAK = len(POLICY.steps)
HOLD_LOOKS = round(POLICY.steps[0].hold / POLICY.tick)
MAX_HOLD_LOOKS = round(POLICY.max_hold / POLICY.tick)


def errors(calibration: Calibration = UNMEASURED) -> ErrorsGate:
    return errors_gate(POLICY, calibration)


def latency(calibration: Calibration = UNMEASURED, strata: tuple[str, ...] = STRATA) -> LatencyGate:
    return latency_gate(POLICY, dict.fromkeys(METRICS, strata), calibration)


def behaviour(calibration: Calibration = UNMEASURED) -> BehaviourGate:
    gate = behaviour_gate(POLICY, POLICY.gates.behaviour.events, calibration)
    assert gate is not None  # it is None only where the servers count no event
    return gate


def quality() -> QualityGate:
    return quality_gate(POLICY, ("all",))


@dataclass(frozen=True)
class Look:
    """What one tick shows to the gates."""

    window: Window
    latency: LatencyWindow
    behaviour: BehaviourWindow

    @property
    def started(self) -> StartedWindow:
        assert self.window.stable is not None
        return StartedWindow(self.window.canary.requests, self.window.stable.requests)


@dataclass(frozen=True)
class Gates:
    """All gates of live traffic in one release."""

    errors: ErrorsGate
    latency: LatencyGate
    behaviour: BehaviourGate
    share: ShareGate | None = None
    step: int = -1

    def observe(self, look: Look) -> Self:
        """Return the gates after one tick; a new step asks for a new share."""
        step = look.window.step
        share = self.share if self.share and step == self.step else _share(step)
        return replace(
            self,
            errors=self.errors.observe(look.window),
            latency=self.latency.observe(look.latency),
            behaviour=self.behaviour.observe(look.behaviour),
            share=share.observe(look.started),
            step=step,
        )

    def follow(self, looks: Iterable[Look]) -> Self:
        """Return the gates after all these ticks."""
        return functools.reduce(type(self).observe, looks, self)

    @property
    def regression(self) -> bool:
        gates: tuple[ErrorsGate | LatencyGate | BehaviourGate, ...] = (self.errors, self.latency, self.behaviour)
        return any(gate.verdict().outcome is Outcome.regression for gate in gates)

    @property
    def may_be_promoted(self) -> bool:
        """The share agrees, and the gates that the last step requires say non-inferior."""
        assert self.share is not None
        required = (self.errors, self.latency)
        return self.share.agrees and all(gate.verdict().outcome is Outcome.non_inferior for gate in required)


def _share(step: int) -> ShareGate:
    weights = (0, *POLICY.ladder)
    return ShareGate(weights[step], weights[step + 1])


def gates(calibration: Calibration = UNMEASURED) -> Gates:
    """The gates of one release before its first look."""
    return Gates(errors(calibration), latency(calibration), behaviour(calibration))
