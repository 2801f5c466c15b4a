"""The burst factor κ: how many bad events one cause brings at once.

Restarting one process fails many requests together, and a test that took them as independent would raise false alarms
in A/A traffic (14–20 % at a nominal .5 % with bursts of five). κ is measured between two stable pods before the
release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluice.judge.windows import Arm

LARGEST = 20.0
ERRORS_AT_LEAST = 5.0
UNMEASURED = 5.0
EVENTS_TO_MEASURE = 200


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Variance of the split of bad events between two equal arms, relative to independent events, and its sample."""

    factor: float
    events: int

    @property
    def measured(self) -> bool:
        return self.events >= EVENTS_TO_MEASURE

    @property
    def kappa(self) -> float:
        """κ for latency, behaviour and all non-inferiority: max(1, φ̂), at most 20; 5 as long as it is not measured."""
        return min(LARGEST, max(1.0, self.factor)) if self.measured else UNMEASURED

    @property
    def kappa_errors(self) -> float:
        """κ for regression by errors: max(5, φ̂), at most 20, since one process that dies always fails several."""
        return max(ERRORS_AT_LEAST, self.kappa)


NOT_MEASURED = Dispersion(1.0, 0)


def dispersion(windows: Iterable[tuple[Arm, Arm]]) -> Dispersion:
    """Measure φ̂ = Σ(e₁ − T w₁)² / Σ T w₁(1 − w₁) between two pods of the same version, window by window.

    e₁ bad events of the first pod, T of both, w₁ the first pod's share of the window's requests.
    """
    return _pooled(windows)


def dispersion_of_pods(windows: Iterable[Mapping[str, Arm]]) -> Dispersion:
    """Measure φ̂ = Σ Σᵢ(eᵢ − T wᵢ)² / Σ Σᵢ T wᵢ(1 − wᵢ) between all pods (name → arm) of the same version.

    Both sums go over windows and pods, so that two pods give the formula of `dispersion`, and any number the same
    expectation: 1 for independent events. Unlike Pearson's X² it does not divide by each pod's expected count, which
    is far below one where events are rare. Pods may come and go; a window with fewer than two busy pods says nothing.
    """
    return _pooled(window.values() for window in windows)


def _pooled(windows: Iterable[Iterable[Arm]]) -> Dispersion:
    squares = expected = 0.0
    events = 0
    for window in windows:
        pods = [arm for arm in window if arm.requests]
        total, requests = sum(arm.bad for arm in pods), sum(arm.requests for arm in pods)
        if not total or len(pods) < 2:
            continue
        for arm in pods:
            share = arm.requests / requests
            squares += (arm.bad - total * share) ** 2
            expected += total * share * (1.0 - share)
        events += total
    return Dispersion(squares / expected, events) if expected else NOT_MEASURED
