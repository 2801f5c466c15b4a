"""Burst factors as the engine measures them: between stable's own pods, before the release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from benchmarks.judge.shipped import POLICY
from benchmarks.judge.streams import ERRORS, ODD, SLOW_SHARE, Draw
from sluice.engine.gates import Calibration
from sluice.judge import Arm, Dispersion, dispersion_of_pods

WINDOWS = 360
"""As far as the engine looks back, in ticks."""
PODS = 2
INDEPENDENT = Calibration(*(Dispersion(1.0, 10**6),) * 3)
"""As if bad events had been measured to be independent: every one counts for itself."""


def calibrated(rng: np.random.Generator, requests: int, bad: Draw) -> Calibration:
    """All burst factors in healthy traffic with so many canary requests a window at the ladder's first weight."""
    together = round(requests / POLICY.ladder[0] * 100)
    return Calibration(
        errors=measured(rng, (ERRORS,), bad, together),
        latency=measured(rng, (SLOW_SHARE,), bad, together),
        behaviour=measured(rng, ODD.values(), bad, together),
    )


def measured(rng: np.random.Generator, rates: Iterable[float], bad: Draw, requests: int = 500) -> Dispersion:
    """The burst factor of events that come at these rates; `requests` of all pods in each window."""
    each = requests // PODS
    return dispersion_of_pods(window for rate in rates for window in _windows(rng, rate, bad, each))


def _windows(rng: np.random.Generator, rate: float, bad: Draw, requests: int) -> Iterator[Mapping[str, Arm]]:
    counts = bad(rng, np.full((WINDOWS, PODS), requests), rate).tolist()
    return ({str(pod): Arm(requests, count) for pod, count in enumerate(window)} for window in counts)
