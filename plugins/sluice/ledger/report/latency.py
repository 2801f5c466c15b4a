"""How long requests took: canary's and stable's distributions with bands, from users' requests or else from probes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.ledger.report.bands import Band, band
from sluice.ledger.report.records import ROLES, field, last_of
from sluice.ports import Entry

METRICS = ("ttft", "tpot", "e2e")

MOST_EDGES = 200
"""Of a curve that is drawn from single times: more cannot be seen."""

Counts = Sequence[tuple[float, int]]
"""(edge in seconds, requests at most so long), ascending; the last edge is infinite."""


@dataclass(frozen=True)
class Curve:
    """One version's distribution of one metric."""

    role: str
    requests: int
    slow: int | None
    """Requests over the limit; None if no edge tells."""
    points: tuple[Band, ...]


@dataclass(frozen=True)
class Metric:
    name: str
    limit_seconds: float | None
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Curves:
    """`of`: whose requests they are (users' or probes); "" if there are none."""

    of: str
    metrics: tuple[Metric, ...]


def curves_of(
    entries: Sequence[Entry], version: str, last_good: str, limits_seconds: Mapping[str, float | None]
) -> Curves:
    """Users' requests of the release if any were recorded, else the examination's probes."""
    versions = {"canary": version, "stable": last_good}
    for whose, counts in (
        ("users' requests", _users(entries, versions)),
        ("the examination's probes", _probes(entries, limits_seconds)),
    ):
        metrics = tuple(_metric(name, counts.get(name, {}), limits_seconds.get(name)) for name in METRICS)
        if any(metric.curves for metric in metrics):
            return Curves(whose, tuple(metric for metric in metrics if metric.curves))
    return Curves("", ())


def _metric(name: str, by_role: Mapping[str, Counts], limit: float | None) -> Metric:
    curves = [
        Curve(role, counts[-1][1], _over(counts, limit), band(counts))
        for role in ROLES
        if (counts := by_role.get(role)) and counts[-1][1]
    ]
    return Metric(name, limit, tuple(curves))


def _over(counts: Counts, limit: float | None) -> int | None:
    within = dict(counts).get(limit) if limit is not None else None
    return None if within is None else counts[-1][1] - within


def _users(entries: Sequence[Entry], versions: Mapping[str, str]) -> dict[str, dict[str, Counts]]:
    """metric → role → what was counted between the first and the last recording."""
    recorded = [entry.data.get("versions", {}) for entry in entries if entry.kind == "distributions"]
    if not recorded:
        return {}
    found: dict[str, dict[str, Counts]] = {}
    for role, version in versions.items():
        for metric, after in recorded[-1].get(version, {}).items():
            before = recorded[0].get(version, {}).get(metric, []) if len(recorded) > 1 else []
            found.setdefault(metric, {})[role] = _increase(_counts(before), _counts(after))
    return found


def _counts(recorded: Sequence[Sequence[Any]]) -> Counts:
    return [(math.inf if edge is None else float(edge), int(count)) for edge, count in recorded]


def _increase(before: Counts, after: Counts) -> Counts:
    """What was added; all of `after` if the counters started anew between."""
    earlier = dict(before)
    increase = [(edge, count - earlier.get(edge, 0)) for edge, count in after]
    rising = all(0 <= less <= more for (_, less), (_, more) in itertools.pairwise(increase))
    return increase if rising and all(count >= 0 for _, count in increase) else after


def _probes(entries: Sequence[Entry], limits: Mapping[str, float | None]) -> dict[str, dict[str, Counts]]:
    """metric → role → the examination's times, counted at edges of their own and at the limit."""
    requests = last_of(entries, "examined").get("requests", ())
    found: dict[str, dict[str, Counts]] = {}
    for metric in METRICS:
        for role in ROLES:
            answers = [field(request, role, {}) for request in requests]
            times = [answer.get(metric) for answer in answers if answer and not answer.get("error")]
            found.setdefault(metric, {})[role] = _cumulative(
                [float(time) for time in times if time is not None], limits.get(metric)
            )
    return found


def _cumulative(times: Sequence[float], limit: float | None) -> Counts:
    """What is known exactly at the limit and at up to MOST_EDGES of the times, evenly by rank."""
    ordered = sorted(times)
    ranks = range(0, len(ordered), max(1, len(ordered) // MOST_EDGES))
    edges = {*(ordered[rank] for rank in ranks), *ordered[-1:], *([limit] if limit is not None and ordered else [])}
    return [(edge, bisect.bisect_right(ordered, edge)) for edge in sorted(edges)]
