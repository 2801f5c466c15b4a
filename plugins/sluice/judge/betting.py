"""Betting on bounded scores: the e-processes K⁺ and K⁻ of paired quality and of a floor.

Source: Waudby-Smith & Ramdas, *Estimating means of bounded random variables by betting* (JRSS B, 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sluice.judge.logspace import log_mean

DOWN_STAKES = (0.1, 0.3, 0.6, 0.9)
"""Stakes of K⁻, as fractions of the largest one that cannot ruin."""

UP_STAKES = (0.15, 0.4, 0.8)
"""Stakes of K⁺."""


def bet(wealth: Sequence[float], stakes: Sequence[float], payoff: float) -> tuple[float, ...]:
    """Return the log wealth per stake after one payoff ≥ −1, whose expectation is ≤ 0 under the null hypothesis."""
    return tuple(w + math.log1p(stake * payoff) for w, stake in zip(wealth, stakes, strict=True))


def start(stakes: Sequence[float]) -> tuple[float, ...]:
    """Return the log wealth before the first bet."""
    return (0.0,) * len(stakes)


def log_e(wealth: Sequence[float]) -> float:
    """Return log E, the mean over the stakes."""
    return log_mean(wealth)


def drop(difference: float, max_drop: float) -> float:
    """Return K⁻'s payoff for D ∈ [−1, 1]; H₀: E[D] ≥ −max_drop."""
    return -(difference + max_drop) / (1.0 + max_drop)


def no_drop(difference: float, margin: float) -> float:
    """Return K⁺'s payoff for D ∈ [−1, 1]; H₀: E[D] ≤ −margin."""
    return (difference + margin) / (1.0 - margin)


def under_floor(score: float, floor: float) -> float:
    """Return the payoff for a score in [0, 1]; H₀: its mean is at least `floor`."""
    return (floor - score) / (1.0 - floor)


def over_floor(score: float, floor: float) -> float:
    """Return the payoff for a score in [0, 1]; H₀: its mean is at most `floor`."""
    return (score - floor) / floor
