"""The two e-processes that every gate of bad events runs: regression over the release, margin on the current step.

Strata are classes of requests that are alike (prompt length, say), fixed before the release. They are multiplied
inside each alternative, each bad event with the share of its own stratum; a quarter of the regression's e-value is
the average over strata, which finds what only one of them has. An average alone would need five times the requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge import noninferiority
from sluice.judge.carry import Carried
from sluice.judge.logspace import log_add, log_mean
from sluice.judge.regression import Alternative, above_ceiling, compared
from sluice.judge.starts import NOT_STARTED, StartMixture
from sluice.judge.verdict import InvalidGate
from sluice.judge.windows import NO_REQUESTS, Arm, Arms

JOINT_SHARE = 0.75
ONE_STRATUM = ("all",)


@dataclass(frozen=True)
class Design:
    """What is asked about one kind of bad event, fixed before the first window.

    `max_ratio`: tolerated ratio of the bad rates. `margin`: tolerated difference. `ceiling`: tolerated bad rate where
    there is nothing to compare with. `kappa`, `kappa_promote`: burst factors. `steps`: the ladder's length = the
    soak's index; 0 for an examination, which has no later start.
    """

    alternatives: tuple[Alternative, ...]
    max_ratio: float
    margin: float
    ceiling: float
    kappa: float
    kappa_promote: float
    steps: int
    strata: tuple[str, ...] = ONE_STRATUM

    def check(self, gate: str) -> None:
        """Raise InvalidGate for a value out of its range."""
        ranges = {
            "margin": (0.0 < self.margin < 1.0, "must lie between 0 and 1"),
            "max_ratio": (self.max_ratio >= 1.0, "must be at least 1, else equal versions are a regression"),
            "ceiling": (0.0 < self.ceiling < 1.0, "(the tolerated share of bad requests) must lie between 0 and 1"),
            "kappa": (self.kappa >= 1.0, "must be at least 1, which means independent events"),
            "kappa_promote": (self.kappa_promote >= 1.0, "must be at least 1, which means independent events"),
            "steps": (self.steps >= 0, "must be at least 0, which means an examination"),
            "strata": (len(self.strata) > 0, "must name at least one stratum"),
        }
        for name, (fits, wanted) in ranges.items():
            if not fits:
                raise InvalidGate(f"{gate}.{name}: {getattr(self, name)} {wanted}")


@dataclass(frozen=True)
class RegressionProcess:
    """E-process against "in every window and stratum the canary's bad rate is at most `max_ratio` × stable's"."""

    carried: Carried = field(default_factory=Carried)
    joint: StartMixture = field(default_factory=StartMixture)
    single: Mapping[str, StartMixture] = field(default_factory=dict)

    def observe(self, design: Design, step: int, window: Mapping[str, Arms]) -> Self:
        """Return the process after one window (stratum → arms) of `step`. Raises InvalidEvidence: unknown stratum."""
        carried, complete = self.carried.take(step, design.strata, window)
        if not complete:
            return replace(self, carried=carried)
        joint = self.joint.advance(step, _increments(design, complete), design.steps)
        single = dict(self.single)
        if len(design.strata) > 1:
            for name, arms in complete.items():
                up = _increments(design, {name: arms})
                single[name] = single.get(name, NOT_STARTED).advance(step, up, design.steps)
        return type(self)(carried, joint, single)

    def log_e(self, design: Design) -> float:
        """Return log E."""
        joint = self.joint.log_e(design.alternatives)
        if len(design.strata) == 1:
            return joint
        single = [self.single.get(name, NOT_STARTED).log_e(design.alternatives) for name in design.strata]
        return log_add(math.log(JOINT_SHARE) + joint, math.log(1.0 - JOINT_SHARE) + log_mean(single))


def _increments(design: Design, complete: Mapping[str, Arms]) -> tuple[float, ...]:
    """Return the window's increments: the comparison's, and the ceiling's for what has nothing to compare with."""
    pairs = [(arms.canary, arms.stable) for arms in complete.values() if arms.stable is not None]
    against_stable = compared(pairs, design.alternatives, design.max_ratio, design.kappa)
    if len(pairs) == len(complete):
        return against_stable
    alone = sum((arms.canary for arms in complete.values() if arms.stable is None), NO_REQUESTS)
    against_ceiling = above_ceiling(alone, design.alternatives, design.ceiling, design.kappa)
    return tuple(a + b for a, b in zip(against_stable, against_ceiling, strict=True))


@dataclass(frozen=True)
class MarginProcess:
    """E-process against "the canary is worse by `margin` or more", on one step's evidence: a new step starts at 1."""

    carried: Carried = field(default_factory=Carried)
    wealth: tuple[float, ...] = noninferiority.START
    stable_past: Mapping[str, Arm] = field(default_factory=dict)

    def observe(self, design: Design, step: int, window: Mapping[str, Arms]) -> Self:
        """Return the process after one window (stratum → arms) of `step`. Raises InvalidEvidence: unknown stratum."""
        wealth = self.wealth if step == self.carried.step else noninferiority.START
        past = dict(self.stable_past)
        carried, complete = self.carried.take(step, design.strata, window)
        for name, arms in complete.items():
            before = past.get(name, NO_REQUESTS)
            wealth = noninferiority.add(wealth, _margin_increments(design, arms, before), design.kappa_promote)
            past[name] = before + (arms.stable or NO_REQUESTS)
        return type(self)(carried, wealth, past)

    def log_e(self) -> float:
        """Return log E."""
        return noninferiority.log_e(self.wealth)


def _margin_increments(design: Design, arms: Arms, past: Arm) -> tuple[float, ...]:
    if arms.stable is None:
        return noninferiority.below_ceiling(arms.canary, design.ceiling)
    theta = noninferiority.centre(past, arms.canary, arms.stable, design.margin)
    return noninferiority.within_margin(arms.canary, arms.stable, theta, design.margin)
