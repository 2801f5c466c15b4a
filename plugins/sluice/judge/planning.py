"""How much evidence a verdict needs, before anything is started: for lint and for the plan.

The formulas of non-inferiority were fitted to simulations of the gates with equal versions (±20 % at the median).
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from sluice.judge.logspace import log_sum
from sluice.judge.regression import ERRORS, ONE_VOTE_UP_TO, Alternative, compared
from sluice.judge.share_gate import log_e_weight
from sluice.judge.starts import FIRST_START
from sluice.judge.windows import Arm

MOST_REQUESTS = 10**9
"""Where the search for a number of requests ends."""

STAKES_MIXED = 4.0
"""Factor that a mixture of stakes loses against its best one."""

VARIANCE_FACTOR = 1.48
P90 = 2.3
P99 = 4.0


class Needed(NamedTuple):
    """Requests (or pairs) within which half, 90 % and 99 % of equal versions are shown to be non-inferior."""

    median: float
    p90: float
    p99: float


def _needed(margin: float, variance: float, alpha: float) -> Needed:
    evidence = math.log(STAKES_MIXED / alpha)
    least = evidence / margin
    if not variance:
        return Needed(least, least, least)
    median = least + VARIANCE_FACTOR * evidence * variance / margin**2
    return Needed(median, P90 * median, P99 * median)


def requests_needed(margin: float, base_rate: float, ratio: float, kappa: float = 1.0, alpha: float = 0.05) -> Needed:
    """Return the canary's requests at one step until non-inferiority: κ[4.4/δ + 6.5 b(1−b)(1+ρ)/δ²] at α = .05.

    Args:
        margin: δ, tolerated difference of the bad rates.
        base_rate: b, stable's bad rate; 0 for faultless versions, which need the same number every time.
        ratio: ρ, the canary's requests over stable's (a weight w gives w/(1−w)).
        kappa: burst factor of the non-inferiority test.
        alpha: error rate of the promotion.
    """
    plain = _needed(margin, base_rate * (1.0 - base_rate) * (1.0 + ratio), alpha)
    return Needed(*(kappa * count for count in plain))


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


def share_requests_needed(old_weight: float, new_weight: float, alpha: float = 0.01) -> float:
    """Return the started requests, of both versions, until the share agrees in half of the steps (±15 %).

    Counted on the path on which the canary starts exactly its share. A weight of nothing or all is rejected by the
    first start that it excludes.

    Args:
        old_weight, new_weight: percent; infinite requests where they are equal.
        alpha: error rate at which the old weight is rejected.
    """
    old, new = old_weight / 100.0, new_weight / 100.0
    if old == new:
        return math.inf
    if old in (0.0, 1.0):
        excluded = abs(new - old)
        return 1.0 if excluded == 1.0 else float(math.ceil(math.log(0.5) / math.log1p(-excluded)))

    def log_e(requests: int) -> float:
        return log_e_weight(requests * new, requests * (1.0 - new), old)

    return float(bisect.bisect_left(range(MOST_REQUESTS), -math.log(alpha), key=log_e))


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
