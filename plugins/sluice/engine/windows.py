"""What happened between two readings of a version's counters, and readings as plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sluice.ports import Timing, Totals


def difference(before: Totals | None, after: Totals) -> Totals:
    """The increase; nothing for a counter that fell, which starts anew.

    Telemetry absorbs the resets of single series, so a fall means that another process reads now, which knows less of
    the past: what it shows is no window's increase. `before` is None if nothing was known of the version then:
    everything is new. Counters that belong together fall together, so that no window has more failures than answers.
    """
    before = before or Totals()
    answered, failed = _increase(before.answered, before.failed, after.answered, after.failed)
    attempts, attempts_failed = _increase(
        before.attempts, before.attempts_failed, after.attempts, after.attempts_failed
    )
    return Totals(
        started=max(0, after.started - before.started),
        answered=answered,
        failed=failed,
        attempts=attempts,
        attempts_failed=attempts_failed,
        timings={metric: _timings(before.timings.get(metric, {}), strata) for metric, strata in after.timings.items()},
    )


def to_record(totals: Totals) -> dict[str, Any]:
    """Plain JSON; `from_record` reads it back."""
    timings = {
        metric: {stratum: asdict(timing) for stratum, timing in strata.items()}
        for metric, strata in totals.timings.items()
    }
    return {name: getattr(totals, name) for name in _COUNTERS} | {"timings": timings}


def from_record(record: Mapping[str, Any]) -> Totals:
    """Totals as `to_record` wrote them."""
    timings = {
        metric: {stratum: Timing(**timing) for stratum, timing in strata.items()}
        for metric, strata in record["timings"].items()
    }
    return Totals(**{name: record[name] for name in _COUNTERS}, timings=timings)


_COUNTERS = ("started", "answered", "failed", "attempts", "attempts_failed")


def _timings(before: Mapping[str, Timing], after: Mapping[str, Timing]) -> dict[str, Timing]:
    nothing = Timing(0, 0)
    return {stratum: _timing(before.get(stratum, nothing), timing) for stratum, timing in after.items()}


def _timing(before: Timing, after: Timing) -> Timing:
    return Timing(*_increase(before.requests, before.slow, after.requests, after.slow))


def _increase(before: int, before_bad: int, after: int, after_bad: int) -> tuple[int, int]:
    """Of a count, and of the bad ones in it. A fall also shows by more bad ones than there were."""
    more, more_bad = after - before, after_bad - before_bad
    return (more, more_bad) if 0 <= more_bad <= more else (0, 0)
