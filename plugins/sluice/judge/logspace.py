"""Sums of numbers that are kept as logarithms, because an e-value over a release may leave the range of a float."""

from __future__ import annotations

import math
from collections.abc import Sequence

LARGEST = 1e300


def log(value: float) -> float:
    """Return the natural logarithm, with log 0 = −∞."""
    return math.log(value) if value > 0.0 else -math.inf


def log_add(a: float, b: float) -> float:
    """Return log(eᵃ + eᵇ)."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def log_sum(terms: Sequence[float]) -> float:
    """Return log Σ eˣ over the terms; −∞ for none."""
    high = max(terms) if terms else -math.inf
    if high == -math.inf:
        return high
    return high + math.log(math.fsum([math.exp(term - high) for term in terms]))


def log_mean(terms: Sequence[float]) -> float:
    """Return the logarithm of the mean of eˣ over the terms."""
    return log_sum(terms) - math.log(len(terms))


def exp(value: float) -> float:
    """Return eˣ, cut at 1e300 so that the figure stays a JSON number."""
    return LARGEST if value >= math.log(LARGEST) else math.exp(value)
