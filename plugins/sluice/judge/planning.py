"""How much evidence a verdict needs, before anything is started: for lint and for the plan.

The formulas of non-inferiority were fitted to simulations of the gates with equal versions (±20 % at the median).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sluice.judge.logspace import log_sum
from sluice.judge.regression import ERRORS, ONE_VOTE_UP_TO, Alternative, compared
from sluice.judge.share_gate import ShareGate
from sluice.judge.starts import FIRST_START
from sluice.judge.windows import Arm, StartedWindow

MOST_REQUESTS = 10**9
"""Where the search for a number of requests ends."""

STAKES_MIXED = 4.0
"""Factor that a mixture of stakes loses against its best one."""

VARIANCE_FACTOR = 1.48


class Needed(NamedTuple):
    """Requests (or pairs) within which half, 90 % and 99 % of equal versions are shown to be non-inferior."""

    median: float
    p90: float
    p99: float


SPREAD = Needed(0.0, 2.5, 5.0)
"""At a quantile, noise costs 1 + SPREAD/√κ times what it costs at the median. Fitted to simulated releases (±20 %):
base .1–5 %, margins 1–10 points, κ 1 and 5, weights 10 and 50 %."""

NORMAL = Needed(0.0, 1.2816, 2.3263)
"""Quantiles of the normal distribution."""


def _needed(margin: float, variance: float, alpha: float, kappa: float = 1.0) -> Needed:
    evidence = math.log(STAKES_MIXED / alpha)
    least = kappa * evidence / margin
    noise = kappa * VARIANCE_FACTOR * evidence * variance / margin**2
    return Needed(*(least + (1.0 + more / math.sqrt(kappa)) * noise for more in SPREAD))


def requests_needed(margin: float, base_rate: float, ratio: float, kappa: float = 1.0, alpha: float = 0.05) -> Needed:
    """Return the canary's requests at one step until non-inferiority: κ[4.4/δ + 6.5 b(1−b)(1+ρ)/δ²] at α = .05.

    Args:
        margin: δ, tolerated difference of the bad rates.
        base_rate: b, stable's bad rate; 0 for faultless versions, which need the same number every time.
        ratio: ρ, the canary's requests over stable's (a weight w gives w/(1−w)).
        kappa: burst factor of the non-inferiority test.
        alpha: error rate of the promotion.
    """
    return _needed(margin, base_rate * (1.0 - base_rate) * (1.0 + ratio), alpha, kappa)


def pairs_needed(margin: float, alpha: float = 0.05, discordance: float = 0.05) -> Needed:
    """Return the prompts until non-inferiority in quality; equal versions that differ on `discordance` of them."""
    return _needed(margin, discordance, alpha)


def smallest_certifiable_margin(prompts: int, alpha: float = 0.05, discordance: float = 0.05) -> float:
    """Return the smallest margin that `prompts` prompts certify in at least half of the releases of an equal version.

    The default discordance is a low one: a margin below this result is out of reach, not merely unlikely.
    """
    if prompts < 1:
        return 1.0
    evidence = math.log(STAKES_MIXED / alpha)
    root = math.sqrt(evidence**2 + 4.0 * prompts * VARIANCE_FACTOR * evidence * discordance)
    return min(1.0, (evidence + root) / (2.0 * prompts))


def share_requests_needed(old_weight: float, new_weight: float) -> Needed:
    """Return the requests started, at both versions, until the share gate agrees with `new_weight` (percent).

    A quantile's count of the canary's starts is put to the gate itself: P(later than n) ≤ P(the gate says no at n).
    """
    if not old_weight:  # the first canary request rejects a weight of 0
        return Needed(*(math.log(left) / math.log1p(-new_weight / 100.0) for left in (0.5, 0.1, 0.01)))
    return Needed(*(float(_least(partial(_agrees, old_weight, new_weight, z))) for z in NORMAL))


def _agrees(old_weight: float, new_weight: float, z: float, requests: int) -> bool:
    share = new_weight / 100.0
    canary = round(requests * share - z * math.sqrt(requests * share * (1.0 - share)))
    if canary <= requests * old_weight / 100.0:
        return False
    return ShareGate(old_weight, new_weight).observe(StartedWindow(canary, requests - canary)).agrees


def _least(fits: Callable[[int], bool]) -> int:
    """Return the smallest number that fits, where all above it fit as well."""
    return bisect.bisect_left(range(1, MOST_REQUESTS), True, key=fits) + 1


def requests_to_detect(
    canary_rate: float,
    stable_rate: float,
    weight: float,
    kappa: float,
    alpha: float,
    max_ratio: float = 1.0,
    window: int = 3,
    alternatives: Sequence[Alternative] = ERRORS,
) -> float:
    """Return the canary's requests until regression by ratio, since the first exposure, at the median (±30 %).

    Counted on the path on which each alternative gains its expected evidence in each window; in whole windows. Infinite
    if no alternative gains.

    Args:
        canary_rate, stable_rate: bad rates, in 0…1.
        weight: the canary's share of the requests, in percent, above 0 and below 100.
        kappa: burst factor of the regression test.
        alpha: its error rate.
        max_ratio: tolerated ratio of the bad rates.
        window: the canary's requests in a window. Where bursts are allowed for, long windows need several times as
            many requests as short ones.
        alternatives: the gate's; those of errors by default.
    """
    requests = window, max(1, round(window * (100.0 - weight) / weight))
    canary, stable = (_chances(n, rate, kappa) for n, rate in zip(requests, (canary_rate, stable_rate), strict=True))
    means = requests[0] * canary_rate, requests[1] * stable_rate
    ours = compared([(Arm(requests[0], 1), Arm(requests[1], 0))], alternatives, max_ratio, 1.0)
    theirs = compared([(Arm(requests[0], 0), Arm(requests[1], 1))], alternatives, max_ratio, 1.0)
    gains = [
        (means[0] * up + means[1] * down) / kappa + _vote_gain(canary, stable, up, down, kappa)
        for up, down in zip(ours, theirs, strict=True)
    ]
    if max(gains) <= 0.0:
        return math.inf

    def log_e(windows: int) -> float:
        return log_sum([math.log(alt.weight) + windows * gain for alt, gain in zip(alternatives, gains, strict=True)])

    return float(window * bisect.bisect_left(range(MOST_REQUESTS), -math.log(alpha * FIRST_START), key=log_e))


def _vote_gain(canary: Sequence[float], stable: Sequence[float], up: float, down: float, kappa: float) -> float:
    """Return what a window's expected evidence gains since few bad events are one vote instead of tempered."""
    gain = 0.0
    for (ours, chance), (theirs, other) in itertools.product(enumerate(canary), enumerate(stable)):
        if 0 < ours + theirs <= ONE_VOTE_UP_TO * kappa:
            vote = math.log((ours * math.exp(up) + theirs * math.exp(down)) / (ours + theirs))
            gain += chance * other * (vote - (ours * up + theirs * down) / kappa)
    return gain


def _chances(requests: int, rate: float, kappa: float) -> list[float]:
    """Return the binomial probability of 0, 1, 2 … bad requests, as many as may be one vote; none if κ is 1."""
    if kappa <= 1.0:
        return []
    most = min(requests, int(ONE_VOTE_UP_TO * kappa))
    return [math.comb(requests, bad) * rate**bad * (1.0 - rate) ** (requests - bad) for bad in range(most + 1)]
