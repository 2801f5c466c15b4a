"""What each pod of a version counted, window by window. Pure.

How many bad events one cause brings at once shows between pods: it hits one of them, what is everybody's hits all.
A window counts for a pod that was there at its beginning and at its end: what a pod counted before it was first seen
belongs to no window. Pods are told by the label `pod`, where there is none by `instance`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from prometheus_client.samples import Sample

from sluice.evidence.counters import MonotoneCounters
from sluice.evidence.series import REQUESTS, SERVERS, Reading, counters_of, totals_of
from sluice.ports import Timing, Totals

_SERVERS = re.compile(SERVERS)


def increases(
    series: Iterable[Sequence[Sample]],
    version: str,
    limits_seconds: Mapping[str, float],
    window: timedelta,
    windows: int,
) -> Sequence[Mapping[str, Totals]]:
    """`series`: samples of one version, taken at the windows' edges. Returns pod → increase by window, oldest first.

    `overdue` is what it was at the window's end. Nothing if there are no samples. Raises BadInput for a limit that is
    no bucket edge.
    """
    at_edges: dict[int, list[Sample]] = defaultdict(list)
    for samples in series:
        for sample in samples:
            at_edges[_milliseconds(sample)].append(sample)
    if not at_edges:
        return ()
    step, last = window // timedelta(milliseconds=1), max(at_edges)
    counters: dict[str, MonotoneCounters] = defaultdict(MonotoneCounters)
    seen = [
        {
            pod: totals_of(Reading(counters[pod].absorb({pod: counters_of(own)}), own), [version], limits_seconds)[
                version
            ]
            for pod, own in _pods(at_edges.get(edge, ())).items()
        }
        for edge in range(last - windows * step, last + 1, step)
    ]
    return [
        {pod: _increase(before[pod], totals) for pod, totals in after.items() if pod in before}
        for before, after in pairwise(seen)
    ]


def _pods(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    """Pod → what it says of itself; what the gateway says of it is nobody's own."""
    found: dict[str, list[Sample]] = defaultdict(list)
    servers = set()
    for sample in samples:
        pod = sample.labels.get("pod") or sample.labels.get("instance", "")
        if _SERVERS.fullmatch(sample.name):
            servers.add(pod)
            found[pod].append(sample)
        elif sample.name == REQUESTS and sample.labels.get("reporter") == "destination":
            found[pod].append(sample)
    return {pod: own for pod, own in found.items() if pod in servers}


def _increase(before: Totals, after: Totals) -> Totals:
    return Totals(
        attempts=after.attempts - before.attempts,
        attempts_failed=after.attempts_failed - before.attempts_failed,
        overdue=after.overdue,
        timings={
            metric: {stratum: _later(before.timings[metric].get(stratum), timing) for stratum, timing in strata.items()}
            for metric, strata in after.timings.items()
        },
        completed=after.completed - before.completed,
        behaviour={event: count - before.behaviour.get(event, 0) for event, count in after.behaviour.items()},
    )


def _later(before: Timing | None, after: Timing) -> Timing:
    return Timing(after.requests - before.requests, after.slow - before.slow) if before else after


def _milliseconds(sample: Sample) -> int:
    return round(float(sample.timestamp or 0.0) * 1000)
