"""What one window says about "the canary is not worse": log e-value increments, one per alternative.

Sources: the two-arm case of Lindon & Malek, *Anytime-valid inference for multinomial count data* (NeurIPS 2022), made
robust to bursts by one vote per window (exact for any dependence inside it) or by tempering (exact for bursts ≤ κ, by
Jensen).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sluice.judge.windows import Arm

ONE_VOTE_UP_TO = 1.5
"""A window of at most this many times κ bad events is one vote; with more, tempering says more."""


class Alternative(NamedTuple):
    """A canary whose bad events are `ratio` times what the null hypothesis allows, and its weight in the mixture."""

    ratio: float
    weight: float


ERRORS = tuple(Alternative(ratio, 0.25) for ratio in (2.0, 4.0, 10.0, 40.0))
LATENCY = (Alternative(1.6, 0.3), Alternative(2.2, 0.5), Alternative(5.0, 0.2))
BEHAVIOUR = tuple(Alternative(ratio, 0.25) for ratio in (1.6, 2.5, 5.0, 20.0))


def compared(
    strata: Sequence[tuple[Arm, Arm]], alternatives: Sequence[Alternative], max_ratio: float, kappa: float
) -> tuple[float, ...]:
    """Return log e-value increments, one per alternative, of one window of (canary, stable) arms by stratum.

    H₀: in every window and stratum the canary's bad rate is at most `max_ratio` × stable's. Then a bad event is the
    canary's with probability at most p₀ = n_c r/(n_c r + n_s); under the alternative with q = n_c ρr/(n_c ρr + n_s).
    Hence the factors q/p₀ = ρ·s and (1−q)/(1−p₀) = s with s = (n_c r + n_s)/(n_c ρr + n_s), which also hold for an
    arm without requests.
    """
    told = [
        Told(canary.bad, canary.bad + stable.bad, canary.requests * max_ratio, stable.requests)
        for canary, stable in strata
        if canary.bad or stable.bad
    ]
    if not told:
        return (0.0,) * len(alternatives)
    events = sum([stratum.events for stratum in told])
    vote = _one_vote if kappa > 1.0 and events <= ONE_VOTE_UP_TO * kappa else _tempered
    return tuple([vote(told, ratio, kappa, events) for ratio, _ in alternatives])


class Told(NamedTuple):
    """A stratum with bad events: the canary's, both versions', and n_c r and n_s, which they were exposed to."""

    canary: int
    events: int
    exposed: float
    stable_requests: int


def _one_vote(told: Sequence[Told], ratio: float, kappa: float, events: int) -> float:
    """Return the log of the mean factor over the window's bad events: its expectation is ≤ 1 however they depend."""
    total = 0.0
    for canary, bad, exposed, stable_requests in told:
        scale = (exposed + stable_requests) / (exposed * ratio + stable_requests)
        total += scale * (canary * ratio + (bad - canary))
    return math.log(total / events)


def _tempered(told: Sequence[Told], ratio: float, kappa: float, events: int) -> float:
    """Return the log-likelihood ratio divided by κ."""
    log_ratio, total = math.log(ratio), 0.0
    for canary, bad, exposed, stable_requests in told:
        scale = (exposed + stable_requests) / (exposed * ratio + stable_requests)
        total += canary * log_ratio + bad * math.log(scale)
    return total / kappa


def above_ceiling(arm: Arm, alternatives: Sequence[Alternative], ceiling: float, kappa: float) -> tuple[float, ...]:
    """Return log e-value increments against H₀: the bad rate is at most `ceiling` in every window, alone.

    Windows in which the ceiling allows few bad events (n·c ≤ 1.5 κ, κ > 1) are one vote, 1 − s + s·e/(n c) with s = 1
    − exp(−(ρ−1) n c), at most .9: a bet on the *number* of bad events, whose expectation is ≤ 1 however they depend,
    and which is the Poisson likelihood ratio where events are rare. Else the Bernoulli likelihood ratio of min(ρc,
    (1+c)/2), tempered.
    """
    allowed = arm.requests * ceiling
    if not arm.requests:
        return (0.0,) * len(alternatives)
    if kappa > 1.0 and allowed <= ONE_VOTE_UP_TO * kappa:
        return tuple(_bet_on_count(arm.bad, allowed, ratio) for ratio, _ in alternatives)
    return tuple(_likelihood_ratio(arm, ratio, ceiling) / kappa for ratio, _ in alternatives)


def _bet_on_count(bad: int, allowed: float, ratio: float) -> float:
    kept = max(0.1, math.exp(-(ratio - 1.0) * allowed))
    return math.log(kept + (1.0 - kept) * bad / allowed)


def _likelihood_ratio(arm: Arm, ratio: float, ceiling: float) -> float:
    rate = min(ratio * ceiling, (1.0 + ceiling) / 2.0)
    return arm.bad * math.log(rate / ceiling) + (arm.requests - arm.bad) * math.log((1.0 - rate) / (1.0 - ceiling))
