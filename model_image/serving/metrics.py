"""What the server tells Prometheus. Every series carries revision and version; requests also traffic and prompt class.

Times, in seconds, from the arrival of the request's head: to the first token (TTFT), to the last token (duration E2E).
Time per output token is (E2E - TTFT) / (n - 1), for n >= 2. An SLO that is judged from these histograms must lie on a
bucket's edge. Duration and time per output token are of completed requests (stop, length) only.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]

# fmt: off
BUCKETS_SECONDS = (
    .005, .01, .02, .03, .05, .075, .1, .15, .2, .25, .3, .4, .5, .75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120,
)
# fmt: on
UNCLASSIFIED = "unknown"
"""Prompt class of requests that were refused before their prompt was read."""
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


class Metrics:
    """The server's series, in a registry of their own."""

    def __init__(self, revision: str, version: str) -> None:
        self._version = (revision, version)
        registry = self._registry = CollectorRegistry()

        def histogram(name: str, text: str, labels: Sequence[str]) -> Histogram:
            return Histogram(name, text, labels, buckets=BUCKETS_SECONDS, registry=registry)

        self._started = Counter("serving_requests_started", "Requests that arrived", _REQUEST, registry=registry)
        self._finished = Counter(
            "serving_requests_finished", "Requests that ended", (*_REQUEST, "reason"), registry=registry
        )
        self._ttft = histogram("serving_time_to_first_token_seconds", "Arrival to first token", _REQUEST)
        self._duration = histogram(
            "serving_request_duration_seconds", "Arrival to last token, completed requests", _REQUEST
        )
        self._tpot = histogram(
            "serving_time_per_output_token_seconds", "(duration - TTFT) / (tokens - 1)", (*_REQUEST, "output_class")
        )
        self._prompt_tokens = Counter("serving_prompt_tokens", "Tokens of started prompts", _REQUEST, registry=registry)
        self._output_tokens = Counter("serving_output_tokens", "Tokens generated", _REQUEST, registry=registry)
        self._running = Gauge(
            "serving_requests_running", "Requests that the engine works on", _VERSION, registry=registry
        )
        self._waiting = Gauge(
            "serving_requests_waiting", "Requests that wait for a slot or for cache", _VERSION, registry=registry
        )

    def started(self, traffic: str, prompt_class: str) -> None:
        self._started.labels(*self._version, traffic, prompt_class).inc()

    def finished(self, traffic: str, prompt_class: str, reason: str) -> None:
        """`reason` is stop, length, cancelled, deadline, failed or refused."""
        self._finished.labels(*self._version, traffic, prompt_class, reason).inc()

    def tokens(self, traffic: str, prompt_class: str, prompt: int, output: int) -> None:
        self._prompt_tokens.labels(*self._version, traffic, prompt_class).inc(prompt)
        self._output_tokens.labels(*self._version, traffic, prompt_class).inc(output)

    def first_token(self, traffic: str, prompt_class: str, seconds: float) -> None:
        self._ttft.labels(*self._version, traffic, prompt_class).observe(seconds)

    def completed(self, traffic: str, prompt_class: str, seconds: float) -> None:
        self._duration.labels(*self._version, traffic, prompt_class).observe(seconds)

    def per_output_token(self, traffic: str, prompt_class: str, output_class: str, seconds: float) -> None:
        self._tpot.labels(*self._version, traffic, prompt_class, output_class).observe(seconds)

    def exposition(self, running: int, waiting: int) -> bytes:
        """The text format, with the gauges as they are now."""
        self._running.labels(*self._version).set(running)
        self._waiting.labels(*self._version).set(waiting)
        return generate_latest(self._registry)
