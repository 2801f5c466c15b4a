"""Argo Rollouts: an analysis metric with a condition on each measurement, and a limit of failed measurements.

Rule (docs/features/analysis.md): a measurement that does not meet `successCondition` is a failure; the analysis fails,
and the rollout is aborted, as soon as the failures exceed `failureLimit`, whose default is 0. A measurement without
requests is NaN, which meets no condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Analysis:
    """`success_at_least`: the metric's `successCondition: result[0] >= …`."""

    success_at_least: float
    failure_limit: int = 0

    def aborted_at(self, success_rates: Iterable[float]) -> int | None:
        """Return the number of the measurement, from 0, at which the rollout is aborted; None: it never is."""
        failures = 0
        for number, rate in enumerate(success_rates):
            failures += not rate >= self.success_at_least
            if failures > self.failure_limit:
                return number
        return None


STRICT = Analysis(0.99)
"""The same objective as Flagger's, with Argo's default limit."""

DOCUMENTED_CONDITION = Analysis(0.95)
"""The condition of the documentation's example (`result[0] >= 0.95`), with Argo's default limit."""
