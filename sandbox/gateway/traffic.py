"""What passed through the gateway: Envoy's log lines -> access-log entries and Istio's standard metrics.

Counters start from 0 with the gateway process, as those of any restarted proxy do; clients handle the reset.
A mirrored request is Envoy's own copy: it is neither logged nor counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from sandbox.gateway.hosts import SERVICE_SUFFIX

disable_created_metrics()  # type: ignore[no-untyped-call]

REQUEST_LABELS = (
    "reporter",
    "destination_service",
    "destination_service_name",
    "destination_workload",
    "destination_version",
    "response_code",
    "response_flags",
    "traffic",
)
ATTEMPT_LABELS = ("cluster_name", "destination_version", "traffic")
DURATION_BUCKETS_MS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000),
    *(300_000, 600_000, 1_800_000, 3_600_000),
)
UNKNOWN = "unknown"

EntryType = Literal["request", "attempt_started", "attempt_ended"]
TYPES: dict[str, EntryType] = {
    "DownstreamEnd": "request",
    "UpstreamPoolReady": "attempt_started",
    "UpstreamEnd": "attempt_ended",
}


@dataclass(frozen=True)
class Entry:
    """One line of the access log. `start_time` is that of the request, or of the attempt at one destination."""

    type: EntryType
    start_time: str
    request_id: str
    authority: str
    method: str
    path: str
    route_name: str
    traffic: Literal["user", "synthetic"]
    probe: str | None
    destination_service: str
    destination_workload: str
    destination_version: str
    upstream_cluster: str | None
    upstream_host: str | None
    response_code: int
    response_flags: str
    duration_ms: int
    response_duration_ms: int | None
    bytes_sent: int
    downstream: str

    @property
    def attempt(self) -> tuple[str, str, str]:
        """Names one attempt: callers may send the same request id twice."""
        return self.request_id, self.start_time, self.downstream


def entry_of(line: dict[str, Any]) -> Entry:
    """Envoy's line (`envoy_config.LOG_FORMAT`) as an entry."""
    cluster = line["upstream_cluster"]
    return Entry(
        type=TYPES[line["log_type"]],
        start_time=line["start_time"],
        request_id=line["request_id"] or "",
        authority=line["authority"] or "",
        method=line["method"] or "",
        path=line["path"] or "",
        route_name=line["route_name"] or "",
        traffic="synthetic" if line["probe"] is not None else "user",
        probe=line["probe"],
        destination_service=(cluster.rpartition("|")[2] if cluster else line["service"]) or UNKNOWN,
        destination_workload=line["workload"] or UNKNOWN,
        destination_version=line["subset_version"] or line["pod_version"] or UNKNOWN,
        upstream_cluster=cluster,
        upstream_host=line["upstream_host"],
        response_code=line["response_code"] or 0,
        response_flags=line["response_flags"] or "-",
        duration_ms=line["duration_ms"] or 0,
        response_duration_ms=line["response_duration_ms"],
        bytes_sent=line["bytes_sent"] or 0,
        downstream=line["downstream"] or "",
    )


class Traffic:
    """Counts entries; `observe` returns what the access log gets for one line of Envoy's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._in_flight: set[tuple[str, str, str]] = set()
        self._requests = Counter(
            "istio_requests_total",
            "Requests completed: as users got them (source), and attempts that reached the destination (destination).",
            REQUEST_LABELS,
            registry=self.registry,
        )
        self._durations = Histogram(
            "istio_request_duration_milliseconds",
            "Durations of the requests in istio_requests_total.",
            REQUEST_LABELS,
            buckets=DURATION_BUCKETS_MS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "envoy_cluster_upstream_rq_total",
            "Attempts at a destination, counted when they start, failed connections included.",
            ATTEMPT_LABELS,
            registry=self.registry,
        )
        self._active = Gauge(
            "envoy_cluster_upstream_rq_active", "Attempts in flight.", ATTEMPT_LABELS, registry=self.registry
        )

    def observe(self, line: dict[str, Any]) -> list[dict[str, Any]]:
        entry = entry_of(line)
        if entry.type == "request":
            self._complete("source", entry)
            return [_record(entry)]
        if entry.type == "attempt_started":
            self._start(entry)
            return [_record(entry)]
        if entry.attempt not in self._in_flight:
            # Envoy logs no start of an attempt whose connection failed; it did not reach the destination.
            self._attempts.labels(*_attempt_labels(entry)).inc()
            return [_record(entry) | {"type": "attempt_started"}, _record(entry)]
        self._in_flight.remove(entry.attempt)
        self._active.labels(*_attempt_labels(entry)).dec()
        self._complete("destination", entry)
        return [_record(entry)]

    def _start(self, entry: Entry) -> None:
        self._in_flight.add(entry.attempt)
        self._attempts.labels(*_attempt_labels(entry)).inc()
        self._active.labels(*_attempt_labels(entry)).inc()

    def _complete(self, reporter: str, entry: Entry) -> None:
        service = entry.destination_service
        name = service.split(".")[0] if service.endswith(SERVICE_SUFFIX) else service
        labels = (
            reporter,
            service,
            name,
            entry.destination_workload,
            entry.destination_version,
            str(entry.response_code),
            entry.response_flags,
            entry.traffic,
        )
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(entry.duration_ms)


def _attempt_labels(entry: Entry) -> tuple[str, str, str]:
    return entry.upstream_cluster or UNKNOWN, entry.destination_version, entry.traffic


def _record(entry: Entry) -> dict[str, Any]:
    record = asdict(entry)
    del record["downstream"]
    return record
