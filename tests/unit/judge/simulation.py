"""Simulated traffic, and the limits within which simulated rates are as claimed."""

import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np

from sluice.judge import Arm, Arms
from sluice.judge.process import Design, RegressionProcess


@cache
def binomial(rate: float, repetitions: int, probability: float) -> int:
    """The quantile of Binomial(repetitions, rate)."""
    log_terms = (
        math.lgamma(repetitions + 1)
        - math.lgamma(k + 1)
        - math.lgamma(repetitions - k + 1)
        + k * math.log(rate)
        + (repetitions - k) * math.log1p(-rate)
        for k in range(repetitions + 1)
    )
    cumulated = itertools.accumulate(math.exp(term) for term in log_terms)
    return next((k for k, total in enumerate(cumulated) if total >= probability), repetitions)


def likely_at_most(rate: float, repetitions: int) -> int:
    """The 99.9 % quantile of Binomial(repetitions, rate)."""
    return binomial(rate, repetitions, 0.999)


def arm(rng: np.random.Generator, requests: int, rate: float) -> Arm:
    return Arm(requests, int(rng.binomial(requests, rate)))


def arms(rng: np.random.Generator, canary: int, weight: float, canary_rate: float, stable_rate: float) -> Arms:
    """A window with so many canary requests at a weight."""
    stable = round(canary * (1 - weight) / weight)
    return Arms(arm(rng, canary, canary_rate), arm(rng, stable, stable_rate))


def requests_until_regression(
    windows: Iterator[tuple[int, Arms]], asked: Design, alpha: float, process: RegressionProcess
) -> int:
    requests = 0
    for step, window in windows:
        process = process.observe(asked, step, {"all": window})
        requests += window.canary.requests
        if process.log_e(asked) >= -math.log(alpha) or requests > 20_000:
            return requests
    return requests
