"""More than a little more: an e-process against "the canary's bad rate exceeds stable's by at most `min_excess`".

It is the margin test with its stakes reversed. In a window with θ fixed before it and c = θ + δ, a stake a bets on the
canary and against stable:

    C = 1 + a(e_c/n_c − c), or (1 + a κ/n_c (1 − c))^(e_c/κ) · (1 − a κ/n_c c)^((n_c−e_c)/κ) in large windows
    S = (1 − a κ/n_s (1 − θ))^(e_s/κ) · (1 + a κ/n_s θ)^((n_s−e_s)/κ), with κ at most n_s, as no burst is larger

Factors are not negative as long as a ≤ 1/c (or n_c/(κ c)) and a ≤ n_s/(κ(1 − θ)), so stakes are fractions of the
largest such a, which depends on counts of requests and on the past alone. Expectation: E[C] ≤ exp a(θ_c − c), for the
first form because it is linear, however the window's events depend, for the second because bursts of at most κ are
tempered (Jensen) and 1 + x ≤ eˣ; in the same way E[S] ≤ exp −a(θ_s − θ). Together E[C·S] ≤ exp a(θ_c − θ_s − δ) ≤ 1 in
every window in which the null hypothesis holds, while base rate and share may move. Where there is nothing to compare
with, C alone bets with c = the ceiling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

from sluice.judge.carry import Carried
from sluice.judge.process import ONE_STRATUM, Design
from sluice.judge.regression import ONE_VOTE_UP_TO
from sluice.judge.starts import StartMixture
from sluice.judge.windows import NO_REQUESTS, Arm, Arms

STAKES = tuple((stake, 0.25) for stake in (0.08, 0.25, 0.6, 0.95))
"""Fractions of the largest stake that cannot ruin, and their weights."""


@dataclass(frozen=True)
class ExcessProcess:
    """E-process over the release, with a mixture over starts."""

    carried: Carried = field(default_factory=Carried)
    mixture: StartMixture = field(default_factory=StartMixture)
    stable_past: Arm = NO_REQUESTS

    def observe(self, design: Design, min_excess: float, step: int, window: Arms) -> Self:
        """Return the process after one window of `step`."""
        carried, complete = self.carried.take(step, ONE_STRATUM, {ONE_STRATUM[0]: window})
        if not complete:
            return type(self)(carried, self.mixture, self.stable_past)
        [arms] = complete.values()
        increments = beyond(arms, self.stable_past, min_excess, design.ceiling, design.kappa)
        mixture = self.mixture.advance(step, increments, design.steps)
        return type(self)(carried, mixture, self.stable_past + (arms.stable or NO_REQUESTS))

    def log_e(self) -> float:
        """Return log E."""
        return self.mixture.log_e(STAKES)


def beyond(arms: Arms, stable_past: Arm, min_excess: float, ceiling: float, kappa: float) -> tuple[float, ...]:
    """Return log increments, one per stake, of one window in which each arm that takes part has requests."""
    canary, stable = arms.canary, arms.stable
    if stable is None:
        most = _most(canary, ceiling, kappa)
        return tuple(_over(canary, ceiling, stake * most, kappa) for stake, _ in STAKES)
    rate = stable_past.bad / stable_past.requests if stable_past.requests else 0.0
    theta = min(rate, 1.0 - min_excess)
    burst = min(kappa, float(stable.requests))
    most = min(_most(canary, theta + min_excess, kappa), stable.requests / (burst * (1.0 - theta)))
    return tuple(
        _over(canary, theta + min_excess, stake * most, kappa) + _tempered(stable, theta, -stake * most, burst)
        for stake, _ in STAKES
    )


def _votes(canary: Arm, allowed: float, kappa: float) -> bool:
    return kappa > 1.0 and canary.requests * allowed <= ONE_VOTE_UP_TO * kappa


def _most(canary: Arm, allowed: float, kappa: float) -> float:
    return 1.0 / allowed if _votes(canary, allowed, kappa) else canary.requests / (kappa * allowed)


def _over(canary: Arm, allowed: float, stake: float, kappa: float) -> float:
    if _votes(canary, allowed, kappa):
        return math.log1p(stake * (canary.bad / canary.requests - allowed))
    return _tempered(canary, allowed, stake, kappa)


def _tempered(arm: Arm, rate: float, stake: float, kappa: float) -> float:
    each = stake * kappa / arm.requests
    bad, good = math.log1p(each * (1.0 - rate)), math.log1p(-each * rate)
    return (arm.bad * bad + (arm.requests - arm.bad) * good) / kappa
