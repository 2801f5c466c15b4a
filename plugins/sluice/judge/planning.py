"""How much evidence a verdict needs, before anything is started: for lint and for the plan.

The formulas were fitted to simulations of the gates with equal versions (±20 % at the median).
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
