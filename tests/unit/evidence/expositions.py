"""What a gateway and model servers expose to Prometheus, by the names and labels that the real ones use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import MetricsHandler

EDGES = (0.05, 0.5, 20.0)
REQUEST = ["version", "traffic", "prompt_class"]


class Gateway:
    """A gateway's counters, by the names that Istio and Envoy give them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["reporter", "destination_version", "response_code", "response_flags", "traffic"]
        self._requests = Counter("istio_requests", "ended", labels, registry=self.registry)
        self._started = Counter(
            "envoy_cluster_upstream_rq", "started", ["destination_version", "traffic"], registry=self.registry
        )

    def started(self, version: str, count: int, traffic: str = "user") -> None:
        self._started.labels(version, traffic).inc(count)

    def ended(
        self, reporter: str, code: str, flags: str, count: int, version: str = "v1", traffic: str = "user"
    ) -> None:
        self._requests.labels(reporter, version, code, flags, traffic).inc(count)


class Servers:
    """A model server's series."""

    def __init__(self, version: str = "v1") -> None:
        self._version = version
        self.registry = CollectorRegistry()

        def histogram(name: str, *more: str) -> Histogram:
            return Histogram(name, name, [*REQUEST, *more], buckets=EDGES, registry=self.registry)

        self._ttft = histogram("serving_time_to_first_token_seconds")
        self._e2e = histogram("serving_request_duration_seconds")
        self._tpot = histogram("serving_time_per_output_token_seconds", "output_class")
        self._under_way = Gauge(
            "serving_requests_running_longer", "late", [*REQUEST, "metric", "le"], registry=self.registry
        )
        self._answers = Counter("serving_answers", "answers", REQUEST, registry=self.registry)
        self._events = Counter("serving_answer_events", "events", [*REQUEST, "event"], registry=self.registry)

    def first_token(self, *seconds: float, prompt: str = "short", traffic: str = "user") -> None:
        for value in seconds:
            self._ttft.labels(self._version, traffic, prompt).observe(value)

    def ended(self, *seconds: float, prompt: str = "short", traffic: str = "user") -> None:
        for value in seconds:
            self._e2e.labels(self._version, traffic, prompt).observe(value)

    def per_token(self, *seconds: float, prompt: str = "short", output: str = "long") -> None:
        for value in seconds:
            self._tpot.labels(self._version, "user", prompt, output).observe(value)

    def under_way(self, metric: str, age_seconds: float, count: int, traffic: str = "user") -> None:
        """So many requests of this age are under way at this moment; none of another age, or for another metric."""
        for series in next(iter(self._under_way.collect())).samples:
            self._under_way.labels(**series.labels).set(0)
        for edge in EDGES:
            if age_seconds > edge:
                self._under_way.labels(self._version, traffic, "short", metric, str(edge)).set(count)

    def answered(self, count: int, *events: str, traffic: str = "user") -> None:
        self._answers.labels(self._version, traffic, "short").inc(count)
        for event in events:
            self._events.labels(self._version, traffic, "short", event).inc()


class Port:
    """What a port shows: the series of the process that runs there now."""

    def __init__(self, process: Gateway | Servers) -> None:
        self.process = process

    def exposed(self) -> AbstractContextManager[str]:
        port = self

        class Metrics(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE_LATEST)
                self.end_headers()
                self.wfile.write(generate_latest(port.process.registry))

            def log_message(self, *arguments: object) -> None:
                """Scrapes would fill the test's output."""

        return served(Metrics)


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def exposed(registry: CollectorRegistry) -> AbstractContextManager[str]:
    return served(MetricsHandler.factory(registry))
