"""Flagger: checks at an interval, and a rollback after a number of failed ones.

Rule (docs.flagger.app, "Metrics Analysis" and "Deployment Strategies"): a check fails if the success rate of the
interval is below `thresholdRange.min` (99 for `request-success-rate`), or if there is no value; failed checks add up
over the whole analysis, good ones in between take none away; at `threshold` failed checks the canary is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Analysis:
    """`success_percent_at_least`: thresholdRange.min. `threshold`: failed checks before rollback."""

    success_percent_at_least: float = 99.0
    threshold: int = 5

    def rolled_back_at(self, success_rates: Iterable[float]) -> int | None:
        """Return the number of the check, from 0, that rolls back; None: none does. Rates are shares, NaN: no value."""
        failed = 0
        for number, rate in enumerate(success_rates):
            failed += not 100.0 * rate >= self.success_percent_at_least
            if failed >= self.threshold:
                return number
        return None


DOCUMENTED = Analysis()
