"""Kayenta's NetflixACAJudge: a Mann-Whitney test per metric, a score over groups, two thresholds.

Rules, from the judge's documentation and behaviour: points per metric, NaN removed; no points: `Nodata`; the same
points in both arms: `Pass`; else the two-sided confidence interval (.98) of the shift by Mann-Whitney, as R's
`wilcox.test` has it (normal approximation, continuity and tie corrections), must lie beyond a quarter of the estimated
shift, and the effect size (ratio of the means, unless a mean is 0) must reach `allowed_increase`. A group's score is
the percentage of its metrics that pass, the summary their weighted mean. A run below `marginal` fails the canary at
once, the last run must reach `pass`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.98
TOLERANCE = 0.25
ALLOWED_INCREASE = 1.0
MARGINAL, PASS = 75.0, 95.0
POINTS_PER_RUN = 50
"""The least number of points per metric and run that its documentation asks for; the judge itself does not."""
RUNS = 3

_NOISE = 1e-5
_PRECISION = 1e-4
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)

Points = NDArray[np.float64]


class Label(StrEnum):
    passed = "Pass"
    high = "High"
    nodata = "Nodata"


@dataclass(frozen=True)
class Metric:
    """One metric's points in both arms, more being worse (direction `increase`), and its group."""

    group: str
    canary: Points
    baseline: Points


@dataclass(frozen=True)
class Judgement:
    score: float
    labels: tuple[Label, ...]


def judge(metrics: Sequence[Metric], weights: Mapping[str, float], rng: np.random.Generator) -> Judgement:
    """Return the score, 0 to 100. `weights`: percent per group, together 100. `rng`: noise for constant arms."""
    labels = tuple(classify(metric.canary, metric.baseline, rng) for metric in metrics)
    if 2 * labels.count(Label.nodata) >= len(labels):
        return Judgement(0.0, labels)
    score = 0.0
    for group, weight in weights.items():
        counted = [label for metric, label in zip(metrics, labels, strict=True) if metric.group == group]
        counted = [label for label in counted if label is not Label.nodata]
        if counted:
            score += weight * counted.count(Label.passed) / len(counted)
    return Judgement(score, labels)


def failed_at(scores: Sequence[float]) -> int | None:
    """Return the number of the run, from 0, that fails the canary; None: it succeeds. Both thresholds are inclusive."""
    for number, score in enumerate(scores):
        if score < (PASS if number == len(scores) - 1 else MARGINAL):
            return number
    return None


def classify(canary: Points, baseline: Points, rng: np.random.Generator) -> Label:
    """Return whether the canary's points are high."""
    x, y = canary[~np.isnan(canary)], baseline[~np.isnan(baseline)]
    if not len(x) or not len(y):
        return Label.nodata
    if np.array_equal(np.sort(x), np.sort(y)) or len(np.unique(np.concatenate((x, y)))) == 1:
        return Label.passed
    if len(np.unique(x)) == 1 and len(np.unique(y)) == 1:
        x, y = x + rng.normal(0.0, abs(x[0]) * _NOISE, len(x)), y + rng.normal(0.0, abs(y[0]) * _NOISE, len(y))
    return Label.high if _is_high(x, y) and _effect_reaches(x, y) else Label.passed


def _is_high(x: Points, y: Points) -> bool:
    if statistic(x, y, 0.0) <= _Z:  # the interval reaches below 0, and the tolerance is never negative
        return False
    lower, estimate = shift(x, y, _Z), shift(x, y, 0.0)
    return lower > TOLERANCE * abs(estimate)


def _effect_reaches(x: Points, y: Points) -> bool:
    means = float(np.mean(x)), float(np.mean(y))
    return 0.0 in means or means[0] / means[1] >= ALLOWED_INCREASE


def statistic(x: Points, y: Points, moved: float) -> float:
    """Return the standardized Mann-Whitney statistic of x − moved against y."""
    pooled, counts = np.unique(np.concatenate((x - moved, y)), return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    n, m = len(x), len(y)
    u = float(ranks[np.searchsorted(pooled, x - moved)].sum()) - n * (n + 1) / 2 - n * m / 2
    ties = float((counts.astype(float) ** 3 - counts).sum()) / ((n + m) * (n + m - 1))
    sigma = math.sqrt(n * m / 12 * (n + m + 1 - ties))
    return (u - math.copysign(0.5, u) * (u != 0.0)) / sigma if sigma else 0.0


def shift(x: Points, y: Points, quantile: float) -> float:
    """Return where the statistic of x moved down crosses `quantile`: a confidence bound, or at 0 the estimate."""
    low, high = float(x.min() - y.max()), float(x.max() - y.min())
    return _crossing(lambda moved: statistic(x, y, moved) - quantile, low, high)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    if falling(low) <= 0.0:
        return low
    if falling(high) >= 0.0:
        return high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return (low + high) / 2
