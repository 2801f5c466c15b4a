"""Bands around an empirical distribution that hold at all times and places at once. For pictures; no gate uses them.

Source: Howard & Ramdas, *Sequential estimation of quantiles with applications to A/B testing and best-arm
identification* (Bernoulli 28(3), 2022), Corollary 2. Twice as wide as a fixed-n DKW band: the price of looking always.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

A = 0.85
"""Leading factor of the boundary; with it the band is tight where a release has its counts, at 10² … 10⁵."""
_ETAS = tuple(1.0 + step / 1000 for step in range(1, 1500))


@dataclass(frozen=True)
class Band:
    """The distribution at one edge, and between what it lies."""

    edge: float
    share: float
    low: float
    high: float


def radius(count: int, alpha: float = 0.05, first: int = 1) -> float:
    """Return g(t): |F̂_t(x) − F(x)| ≤ g(t) for all x and all t ≥ `first`, with probability at least 1 − `alpha`.

    At most 1, which says nothing: so it is for fewer than `first` observations.
    """
    if count < first:
        return 1.0
    iterated = math.log(1.0 + math.log(count / first)) + constant(alpha)
    return min(1.0, A * math.sqrt(iterated / count))


def band(counts: Sequence[tuple[float, int]], alpha: float = 0.05) -> tuple[Band, ...]:
    """Return the band at each edge of a cumulative histogram: (edge, count up to it), the last one counting all."""
    total = counts[-1][1] if counts else 0
    if total == 0:
        return ()
    around = radius(total, alpha)
    shares = [(edge, count / total) for edge, count in counts]
    return tuple(Band(edge, share, max(0.0, share - around), min(1.0, share + around)) for edge, share in shares)


@lru_cache
def constant(alpha: float) -> float:
    """Return C(`alpha`): the solution of min over η of 4 exp(−γ²C) (1 + 1/((γ²−1) log η)) = α; 8.123 at .05."""
    low, high = 1.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _error(middle) > alpha else (low, middle)
    return high


def _error(c: float) -> float:
    """The probability that the band of constant `c` fails anywhere, ever, by the best of the union bounds."""
    bounds = [1.0]
    for eta in _ETAS:
        slack = A - math.sqrt(2.0 * (eta - 1.0) / c)
        gamma2 = 2.0 / eta * slack * slack
        if slack > 0.0 and gamma2 > 1.0:
            bounds.append(4.0 * math.exp(-gamma2 * c) * (1.0 + 1.0 / ((gamma2 - 1.0) * math.log(eta))))
    return min(bounds)
