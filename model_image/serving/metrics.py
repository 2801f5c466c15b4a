"""What the server tells Prometheus. Every series carries revision and version; requests also traffic and prompt class.

Times, in seconds, from the arrival of the request's head: to the first token (TTFT), to the end (duration E2E). Both
are of every request that was admitted, however it ended: a deadline or a client that lost patience is a slow answer,
too. A request that ended without a first token has its duration for TTFT. Time per output token is
(E2E - TTFT) / (n - 1), for complete answers (stop, length) of n >= 2 tokens. An SLO that is judged from these
histograms must lie on a bucket's edge.

A request that is late counts at once, not when it ends: `serving_requests_running_longer` has those under way that are
older than an edge. When one ends it leaves the gauge and enters the histogram between two readings, so that
count - bucket(edge) + running_longer(edge), the slow requests so far, never falls and has none twice.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.utils import floatToGoString

from serving.answer_events import EVENTS
from serving.config import TIME_BUCKETS_SECONDS
from serving.exposition import Exposition

disable_created_metrics()  # type: ignore[no-untyped-call]
UNCLASSIFIED = "unknown"
"""Prompt class of requests that were refused before their prompt was read."""
BROKEN = ("cut", "stalled")
"""How a stream can be broken."""
_VERSION = ("revision", "version")
_REQUEST = (*_VERSION, "traffic", "prompt_class")


def size_class(tokens: int, bounds: Sequence[int]) -> str:
    """Name of the class that a number of tokens belongs to: with bounds 32,128 one of "1-32", "33-128", "129+"."""
    low = 1
    for bound in bounds:
        if tokens <= bound:
            return f"{low}-{bound}"
        low = bound + 1
    return f"{low}+"


class UnderWay(NamedTuple):
    """A request that has not ended: since when, and whether it has its first token."""

    traffic: str
    prompt_class: str
    age_seconds: float
    has_token: bool


class Metrics:
    """The server's series, in a registry of their own."""

    def __init__(self, revision: str, version: str, buckets_seconds: Sequence[float] = TIME_BUCKETS_SECONDS) -> None:
        self._version = (revision, version)
        self._edges_seconds = tuple(buckets_seconds)
        self._edge_labels = tuple(str(floatToGoString(edge)) for edge in buckets_seconds)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._exposition = Exposition(registry)

        def histogram(name: str, text: str, labels: Sequence[str]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets_seconds, registry=registry)

        self._started = Counter("serving_requests_started", "Requests that arrived", _REQUEST, registry=registry)
        self._finished = Counter(
            "serving_requests_finished", "Requests that ended", (*_REQUEST, "reason"), registry=registry
        )
        self._ttft = histogram("serving_time_to_first_token_seconds", "Arrival to first token, or to the end", _REQUEST)
        self._duration = histogram(
            "serving_request_duration_seconds", "Arrival to end, however it ended, of admitted requests", _REQUEST
        )
        self._tpot = histogram(
            "serving_time_per_output_token_seconds", "(duration - TTFT) / (tokens - 1)", (*_REQUEST, "output_class")
        )
        self._queue = histogram(
            "serving_queue_seconds", "Arrival to the engine, or to the end of a request that never got there", _REQUEST
        )
        self._broken = Counter(
            "serving_streams_broken",
            "Streams that ended before their answer did (cut), or had a long pause (stalled)",
            (*_REQUEST, "how"),
            registry=registry,
        )
        self._refused = Counter(
            "serving_requests_refused",
            "Requests that were not admitted",
            (*_VERSION, "traffic", "code"),
            registry=registry,
        )
        self._prompt_tokens = Counter("serving_prompt_tokens", "Tokens of started prompts", _REQUEST, registry=registry)
        self._output_tokens = Counter("serving_output_tokens", "Tokens generated", _REQUEST, registry=registry)
        self._answers = Counter(
            "serving_answers", "Answers that are complete (stop, length)", _REQUEST, registry=registry
        )
        self._events = Counter(
            "serving_answer_events", "Complete answers that show an event", (*_REQUEST, "event"), registry=registry
        )
        self._running = Gauge(
            "serving_requests_running", "Requests that the engine works on", _VERSION, registry=registry
        )
        self._waiting = Gauge(
            "serving_requests_waiting", "Requests that wait for a slot or for cache", _VERSION, registry=registry
        )

        self._running_longer = Gauge(
            "serving_requests_running_longer",
            "Requests under way that are older than le seconds; for ttft: and have no first token",
            (*_REQUEST, "metric", "le"),
            registry=registry,
        )
        self._once_longer: set[tuple[str, ...]] = set()
        """Labels of the gauge's series: one that was not zero once must go back to zero, not vanish."""

    def started(self, traffic: str, prompt_class: str) -> None:
        self._started.labels(*self._version, traffic, prompt_class).inc()

    def admitted(self, traffic: str, prompt_class: str) -> None:
        """From now on the class has all series of answers and what can be wrong with them: a rate begins with 0."""
        self._answers.labels(*self._version, traffic, prompt_class)
        for event in EVENTS:
            self._events.labels(*self._version, traffic, prompt_class, event)
        for how in BROKEN:
            self._broken.labels(*self._version, traffic, prompt_class, how)

    def answered(self, traffic: str, prompt_class: str, events: Iterable[str]) -> None:
        """A complete answer that shows these of `answer_events.EVENTS`."""
        self._answers.labels(*self._version, traffic, prompt_class).inc()
        for event in events:
            self._events.labels(*self._version, traffic, prompt_class, event).inc()

    def finished(self, traffic: str, prompt_class: str, reason: str) -> None:
        """`reason` is stop, length, cancelled, deadline, failed or refused."""
        self._finished.labels(*self._version, traffic, prompt_class, reason).inc()

    def refused(self, traffic: str, code: str) -> None:
        """`code` is the error's that the client was told, like queue_full."""
        self._refused.labels(*self._version, traffic, code).inc()

    def queued(self, traffic: str, prompt_class: str, seconds: float) -> None:
        self._queue.labels(*self._version, traffic, prompt_class).observe(seconds)

    def stream_broken(self, traffic: str, prompt_class: str, how: str) -> None:
        """`how` is one of BROKEN."""
        self._broken.labels(*self._version, traffic, prompt_class, how).inc()

    def tokens(self, traffic: str, prompt_class: str, prompt: int, output: int) -> None:
        self._prompt_tokens.labels(*self._version, traffic, prompt_class).inc(prompt)
        self._output_tokens.labels(*self._version, traffic, prompt_class).inc(output)

    def first_token(self, traffic: str, prompt_class: str, seconds: float) -> None:
        self._ttft.labels(*self._version, traffic, prompt_class).observe(seconds)

    def ended(self, traffic: str, prompt_class: str, seconds: float) -> None:
        """Any end of an admitted request."""
        self._duration.labels(*self._version, traffic, prompt_class).observe(seconds)

    def per_output_token(self, traffic: str, prompt_class: str, output_class: str, seconds: float) -> None:
        self._tpot.labels(*self._version, traffic, prompt_class, output_class).observe(seconds)

    def exposition(self, running: int, waiting: int, under_way: Iterable[UnderWay]) -> bytes:
        """The text format, with the gauges as they are now; `under_way` are all admitted requests that have not ended.

        Must not be interrupted by an end of one of them, which the one event loop sees to.
        """
        self._running.labels(*self._version).set(running)
        self._waiting.labels(*self._version).set(waiting)
        longer = self._longer(under_way)
        self._once_longer.update(longer)
        for labels in self._once_longer:
            self._running_longer.labels(*self._version, *labels).set(longer[labels])
        return self._exposition.text()

    def _longer(self, under_way: Iterable[UnderWay]) -> Tally[tuple[str, ...]]:
        """How many requests are older than each edge, by labels with the edge written as the histograms write it."""
        ages: Tally[tuple[str, str, str, int]] = Tally()
        for request in under_way:
            passed = bisect_left(self._edges_seconds, request.age_seconds)
            for metric in ("e2e",) if request.has_token else ("ttft", "e2e"):
                ages[request.traffic, request.prompt_class, metric, passed] += 1
        longer: Tally[tuple[str, ...]] = Tally()
        for (traffic, prompt_class, metric, passed), count in ages.items():
            for edge in self._edge_labels[:passed]:
                longer[traffic, prompt_class, metric, edge] += count
        return longer
