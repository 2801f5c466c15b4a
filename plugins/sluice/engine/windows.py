"""What happened between two readings of a version's counters, and readings as plain JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sluice.ports import Distribution, Timing, Totals


def difference(before: Totals | None, after: Totals) -> Totals:
    """The increase; nothing for a counter that fell, which starts anew.

    Telemetry absorbs the resets of single series, so a fall means that another process reads now, which knows less of
    the past: what it shows is no window's increase. `before` is None if nothing was known of the version then:
    everything is new. Counters that belong together fall together, so that no window has more failures than answers.

    Requests that are overdue count among answers and attempts, as failed, from the moment on at which they are: one
    that ends later has counted already, and one that ends well after all is not taken back.
    """
    before = before or Totals()
    late = after.overdue - before.overdue
    answered, failed = _with_overdue(before.answered, before.failed, after.answered, after.failed, late)
    attempts, attempts_failed = _with_overdue(
        before.attempts, before.attempts_failed, after.attempts, after.attempts_failed, late
    )
    completed, behaviour = _behaviour(before, after)
    return Totals(
        started=max(0, after.started - before.started),
        answered=answered,
        failed=failed,
        attempts=attempts,
        attempts_failed=attempts_failed,
        timings={metric: _timings(before.timings.get(metric, {}), strata) for metric, strata in after.timings.items()},
        completed=completed,
        behaviour=behaviour,
    )


def to_record(totals: Totals) -> dict[str, Any]:
    """Plain JSON; `from_record` reads it back."""
    timings = {
        metric: {stratum: asdict(timing) for stratum, timing in strata.items()}
        for metric, strata in totals.timings.items()
    }
    counters = {name: getattr(totals, name) for name in _COUNTERS}
    return counters | {"timings": timings, "behaviour": dict(totals.behaviour)}


def from_record(record: Mapping[str, Any]) -> Totals:
    """Totals as `to_record` wrote them."""
    timings = {
        metric: {stratum: Timing(**timing) for stratum, timing in strata.items()}
        for metric, strata in record["timings"].items()
    }
    return Totals(**{name: record[name] for name in _COUNTERS}, timings=timings, behaviour=record["behaviour"])


def distributions_record(found: Mapping[str, Mapping[str, Distribution]]) -> dict[str, Any]:
    """version → metric → [[edge in seconds, None for the infinite one, requests at most so long], …]."""
    return {
        version: {
            metric: [[None if math.isinf(edge) else edge, count] for edge, count in sorted(counts.items())]
            for metric, counts in metrics.items()
        }
        for version, metrics in found.items()
    }


_COUNTERS = ("started", "answered", "failed", "attempts", "attempts_failed", "overdue", "completed")


def _with_overdue(before: int, before_bad: int, after: int, after_bad: int, late: int) -> tuple[int, int]:
    """Increases of a count and of the bad ones in it, when `late` more (or fewer) are overdue than before."""
    more, more_bad = _increase(before, before_bad, after, after_bad)
    more = max(0, more + late)
    return more, min(max(0, more_bad + late), more)


def _behaviour(before: Totals, after: Totals) -> tuple[int, dict[str, int]]:
    """Increases of the completed answers and of the events they showed; nothing if any of them fell."""
    completed = after.completed - before.completed
    events = {event: count - before.behaviour.get(event, 0) for event, count in after.behaviour.items()}
    if completed < 0 or any(not 0 <= count <= completed for count in events.values()):
        return 0, dict.fromkeys(events, 0)
    return completed, events


def _timings(before: Mapping[str, Timing], after: Mapping[str, Timing]) -> dict[str, Timing]:
    nothing = Timing(0, 0)
    return {stratum: _timing(before.get(stratum, nothing), timing) for stratum, timing in after.items()}


def _timing(before: Timing, after: Timing) -> Timing:
    return Timing(*_increase(before.requests, before.slow, after.requests, after.slow))


def _increase(before: int, before_bad: int, after: int, after_bad: int) -> tuple[int, int]:
    """Of a count, and of the bad ones in it. A fall also shows by more bad ones than there were."""
    more, more_bad = after - before, after_bad - before_bad
    return (more, more_bad) if 0 <= more_bad <= more else (0, 0)
