"""What the mesh's and the servers' series say of a version, wherever they were read. Pure.

Counts are made where the truth is. *Started* is Envoy's own upstream counter, since Istio's counts a request only when
it ends. *Answered* and *failed* are what the gateway sent to users (reporter source). *Attempts* are what the version's
pods saw (reporter destination), retries included, plus what failed on the way to them: the gateway's retries would hide
a failing canary. Times come from the servers' histograms, whose bucket edges include the policy's limits; what is under
way and above an edge already counts there as well. *Completed* and *behaviour* are the servers' own.
Only series with traffic="user" count; probes are kept apart by the gateway.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.samples import Sample

from sluice.errors import BadInput
from sluice.evidence.counters import LONGER
from sluice.evidence.outcomes import Outcome
from sluice.ports import Distribution, Timing, Totals

REQUESTS = "istio_requests_total"
STARTED = "envoy_cluster_upstream_rq_total"
HISTOGRAMS = {
    "ttft": "serving_time_to_first_token_seconds",
    "tpot": "serving_time_per_output_token_seconds",
    "e2e": "serving_request_duration_seconds",
}
UNDER_WAY = "serving_requests_running_longer"
"""Gauge by metric (ttft, e2e) and edge: requests under way that are older. Its other labels are those of the histogram
that they end in. It need not have an edge that no request was ever older than."""
COMPLETED = "serving_answers_total"
EVENTS = "serving_answer_events_total"
IN_FLIGHT = "in_flight"

MESH = rf"{REQUESTS}|{STARTED}"
"""Names of the mesh's series, as a regular expression."""
SERVERS = rf"(?:{'|'.join(HISTOGRAMS.values())})_(?:bucket|count)|{UNDER_WAY}|{COMPLETED}|{EVENTS}"
"""Names of the model servers' series, as a regular expression."""


@dataclass(frozen=True)
class Reading:
    """All series at one look."""

    counted: Sequence[Sample]
    """Counters, without resets: also of what has ended since."""
    present: Sequence[Sample]
    """What is there now, as it was read."""


@dataclass
class _Histogram:
    """One histogram of one process, with what is under way: by bucket edge."""

    count: float = 0.0
    within: dict[float, float] = field(default_factory=dict)
    under_way: dict[float, float] = field(default_factory=dict)

    def longer(self) -> Iterator[tuple[float, float]]:
        """Edge → requests above it, those under way included: each counts from then on at which it is that late."""
        for edge in self.within.keys() | self.under_way.keys():
            ended = self.count - self.within.get(edge, self.count)
            yield edge, ended + self.under_way.get(edge, 0.0)


def counters_of(samples: Iterable[Sample]) -> list[Sample]:
    """One scrape → its counters, and for each histogram what is above each edge, ended or under way (`…_longer`).

    The gauge alone would fall when requests end; together with the histogram that they end in, it does not.
    """
    found: list[Sample] = []
    histograms: dict[tuple[str, frozenset[tuple[str, str]], object], _Histogram] = defaultdict(_Histogram)
    for sample in samples:
        labels = dict(sample.labels)
        edge = labels.pop("le", "")
        family, _, part = sample.name.rpartition("_")
        if sample.name == UNDER_WAY:
            family, part = HISTOGRAMS.get(labels.pop("metric", ""), ""), "under_way"
        else:
            found.append(sample)
        if family not in HISTOGRAMS.values():
            continue
        histogram = histograms[family, frozenset(labels.items()), sample.timestamp]
        if part == "count":
            histogram.count = sample.value
        else:
            (histogram.within if part == "bucket" else histogram.under_way)[float(edge)] = sample.value
    for (family, items, at), histogram in histograms.items():
        for limit, value in histogram.longer():
            found.append(Sample(family + LONGER, {**dict(items), "le": str(limit)}, value, at))  # type: ignore[arg-type]
    return found


def totals_of(reading: Reading, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
    """Totals of those versions that any present series mentions.

    `limits_seconds`: ttft, tpot, e2e and in_flight, any of them. Raises BadInput for a limit that is no bucket edge.
    """
    counted, present = _by_version(reading.counted), _by_version(reading.present)
    return {
        version: _version(counted[version], present[version], limits_seconds)
        for version in versions
        if version in present
    }


def distributions_of(reading: Reading, versions: Sequence[str]) -> Mapping[str, Mapping[str, Distribution]]:
    """version → metric → cumulative counts by edge, over all strata and pods; only what was measured at all."""
    counted, present = _by_version(reading.counted), _by_version(reading.present)
    found = {
        version: {metric: _distribution(metric, counted[version]) for metric in HISTOGRAMS}
        for version in versions
        if version in present
    }
    return {
        version: {metric: buckets for metric, buckets in metrics.items() if buckets}
        for version, metrics in found.items()
    }


def _by_version(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.labels.get("destination_version") or sample.labels.get("version", "")].append(sample)
    return found


def _version(counted: Sequence[Sample], present: Sequence[Sample], limits_seconds: Mapping[str, float]) -> Totals:
    outcomes = [Outcome.of(sample) for sample in counted if sample.name == REQUESTS]
    source = [outcome for outcome in outcomes if outcome.reporter == "source" and not outcome.client_gone]
    attempts = [outcome for outcome in outcomes if outcome.reporter == "destination"]
    attempts += [outcome for outcome in source if outcome.failed and outcome.never_reached]
    in_flight = limits_seconds.get(IN_FLIGHT)
    return Totals(
        started=_sum(counted, STARTED),
        answered=sum(outcome.count for outcome in source),
        failed=sum(outcome.count for outcome in source if outcome.failed),
        attempts=sum(outcome.count for outcome in attempts),
        attempts_failed=sum(outcome.count for outcome in attempts if outcome.failed),
        overdue=0 if in_flight is None else _overdue(counted, present, in_flight),
        timings={
            metric: _timings(metric, counted, limits_seconds[metric])
            for metric in HISTOGRAMS
            if metric in limits_seconds
        },
        completed=_sum(counted, COMPLETED),
        behaviour=_behaviour(counted),
    )


def _sum(samples: Iterable[Sample], name: str) -> int:
    return sum(int(sample.value) for sample in samples if sample.name == name)


def _behaviour(samples: Iterable[Sample]) -> Mapping[str, int]:
    found: dict[str, int] = defaultdict(int)
    for sample in samples:
        if sample.name == EVENTS:
            found[sample.labels.get("event", "")] += int(sample.value)
    return dict(found)


def _overdue(counted: Iterable[Sample], present: Iterable[Sample], limit: float) -> int:
    """Requests under way for longer than the limit, at the pods that are there now."""
    edges = {_edge(sample) for sample in counted if sample.name == f"{HISTOGRAMS['e2e']}_bucket"}
    if edges and not _among(limit, edges):
        raise BadInput(_no_edge("errors.in_flight", "e2e", limit, edges))
    late = [sample for sample in present if sample.name == UNDER_WAY and sample.labels.get("metric") == "e2e"]
    return sum(int(sample.value) for sample in late if math.isclose(_edge(sample), limit))


def _timings(metric: str, samples: Iterable[Sample], limit: float) -> Mapping[str, Timing]:
    """Stratum → requests within the limit or known to be above it, and of these the latter."""
    within: dict[str, int] = defaultdict(int)
    longer: dict[str, int] = defaultdict(int)
    edges: dict[str, set[float]] = defaultdict(set)
    for sample in samples:
        family, _, part = sample.name.rpartition("_")
        if family != HISTOGRAMS[metric] or part == "count":
            continue
        stratum, edge = _stratum(metric, sample), _edge(sample)
        if part == "bucket":
            edges[stratum].add(edge)
        if math.isclose(edge, limit):
            (within if part == "bucket" else longer)[stratum] += int(sample.value)
    for stratum, found in edges.items():
        if not _among(limit, found):
            raise BadInput(_no_edge(f"latency.{metric}", metric, limit, found, stratum))
    return {stratum: Timing(within[stratum] + longer[stratum], longer[stratum]) for stratum in within.keys() | longer}


def _distribution(metric: str, samples: Iterable[Sample]) -> Distribution:
    found: dict[float, int] = defaultdict(int)
    for sample in samples:
        if sample.name == f"{HISTOGRAMS[metric]}_bucket":
            found[_edge(sample)] += int(sample.value)
    return dict(sorted(found.items()))


def _edge(sample: Sample) -> float:
    return float(sample.labels["le"])


def _among(limit: float, edges: Iterable[float]) -> bool:
    return any(math.isclose(edge, limit) for edge in edges)


def _stratum(metric: str, sample: Sample) -> str:
    prompt = sample.labels.get("prompt_class", "")
    return f"{prompt}/{sample.labels.get('output_class', '')}" if metric == "tpot" else prompt


def _no_edge(name: str, metric: str, limit: float, edges: Iterable[float], stratum: str = "all") -> str:
    finite = ", ".join(f"{edge:g}" for edge in sorted(edges) if math.isfinite(edge))
    return (
        f"gates.{name}: {limit:g} s is no bucket edge of {HISTOGRAMS[metric]} ({stratum}), so that slow "
        f"requests cannot be counted; choose one of the servers' edges in seconds: {finite}"
    )
