"""What the server tells Prometheus: each thing counted once, under names and labels that are promised."""

import asyncio
import re
from collections.abc import Callable
from random import Random
from time import perf_counter

import httpx
import pytest
from hand_driven import HandService
from hand_http import ANSWER, DECODE_SECONDS, PREFILL_SECONDS, answering, ask
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from server_process import series
from test_times import on_a_loop

from serving.api import create_app
from serving.config import Settings
from serving.errors import ApiError
from serving.exposition import Exposition
from serving.generation import Ending
from serving.metrics import Metrics, UnderWay

USERS = {"revision": "r1", "version": "v1", "traffic": "user", "prompt_class": "1-32"}
BROKEN, QUEUE = "serving_streams_broken_total", "serving_queue_seconds"


def service(**settings: object) -> HandService:
    return HandService("", Random(0), **{"stall_seconds": 5} | settings)


def asked(server: HandService, **parameters: object) -> httpx.Response:
    return asyncio.run(ask(create_app(server), **parameters))


def breaks(server: HandService) -> dict[str, float]:
    return {how: series(server.metrics_text(), BROKEN, how=how, **USERS) for how in ("cut", "stalled")}


def test_every_series_names_the_revision_and_the_version() -> None:
    server = answering(max_queue=0)
    asked(server)
    asked(server, stream=True)
    asked(server, max_tokens=0)
    samples = [line for line in server.metrics_text().splitlines() if not line.startswith("#")]
    assert len(samples) > 100
    assert all('revision="r1"' in line and 'version="v1"' in line for line in samples)


def test_the_documented_names_and_types_are_those_that_are_told() -> None:
    families = {f.name: f.type for f in text_string_to_metric_families(service().metrics_text())}
    counters = "answers answer_events output_tokens prompt_tokens requests_finished requests_refused requests_started"
    histograms = "queue time_to_first_token request_duration time_per_output_token"
    expected = {f"serving_{name}": "counter" for name in [*counters.split(), "streams_broken"]}
    expected |= {f"serving_{name}_seconds": "histogram" for name in histograms.split()}
    expected |= {f"serving_requests_{name}": "gauge" for name in ("running", "waiting", "running_longer")}
    assert families == expected


def test_an_answer_is_timed_from_its_arrival_to_its_queue_its_first_and_its_last_token() -> None:
    server = answering()
    asked(server)
    metrics = server.metrics_text()
    sums = {
        QUEUE: 0,
        "serving_time_to_first_token_seconds": PREFILL_SECONDS,
        "serving_request_duration_seconds": PREFILL_SECONDS + DECODE_SECONDS,
        "serving_time_per_output_token_seconds": DECODE_SECONDS / (len(ANSWER) - 1),
    }
    assert {name: series(metrics, f"{name}_sum", **USERS) for name in sums} == sums
    assert {series(metrics, f"{name}_count", **USERS) for name in sums} == {1}


def test_tokens_are_counted_when_a_request_ends() -> None:
    server = answering()
    asked(server, prompt="12+34=")
    assert series(server.metrics_text(), "serving_prompt_tokens_total", **USERS) == len("12+34=")
    assert series(server.metrics_text(), "serving_output_tokens_total", **USERS) == len(ANSWER)


@on_a_loop
async def test_every_request_that_started_has_finished_or_is_running_or_waiting() -> None:
    server = service(max_requests_per_batch=2)
    runs = [server.ask() for _ in range(5)]
    runs[0].generation.end(Ending.DEADLINE)
    runs[4].generation.end(Ending.CANCELLED)
    metrics = server.metrics_text()
    assert series(metrics, "serving_requests_started_total", **USERS) == 5
    assert series(metrics, "serving_requests_running") == 2
    assert series(metrics, "serving_requests_waiting") == 1
    finished = {
        str(end): series(metrics, "serving_requests_finished_total", reason=str(end), **USERS) for end in Ending
    }
    assert finished == {"deadline": 1, "cancelled": 1, "failed": 0, "stop": 0, "length": 0}


@on_a_loop
async def test_time_in_the_queue_ends_with_the_engine_getting_the_request() -> None:
    server = service(max_requests_per_batch=1)
    first, _ = server.ask(), server.ask()
    server.now = 3.0
    first.generation.end(Ending.CANCELLED)
    assert series(server.metrics_text(), f"{QUEUE}_count", **USERS) == 2
    assert series(server.metrics_text(), f"{QUEUE}_sum", **USERS) == 3.0


@on_a_loop
async def test_a_request_that_never_got_to_the_engine_was_in_the_queue_until_its_end() -> None:
    server = service(max_requests_per_batch=1)
    server.ask()
    waiting = server.ask()
    server.now = 7.0
    assert series(server.metrics_text(), f"{QUEUE}_count", **USERS) == 1
    waiting.generation.end(Ending.DEADLINE)
    assert series(server.metrics_text(), f"{QUEUE}_count", **USERS) == 2
    assert series(server.metrics_text(), f"{QUEUE}_sum", **USERS) == 7.0


@on_a_loop
async def test_a_stream_that_pauses_twice_is_stalled_once() -> None:
    server = service()
    run = server.ask(stream=True)
    for server.now in (20.0, 25.5, 31.0):
        server.hand.give(run, "2")
    server.hand.give(run, "2", finished=True)
    assert breaks(server) == {"stalled": 1, "cut": 0}


@on_a_loop
async def test_a_long_wait_for_the_first_token_or_a_pause_of_just_the_limit_is_no_stall() -> None:
    server = service()
    run = server.ask(stream=True)
    for server.now in (20.0, 25.0):
        server.hand.give(run, "2")
    server.hand.give(run, "2", finished=True)
    assert breaks(server) == {"stalled": 0, "cut": 0}


@on_a_loop
async def test_a_stream_that_pauses_until_it_is_ended_is_stalled_and_cut() -> None:
    server = service()
    run = server.ask(stream=True)
    server.hand.give(run, "2")
    server.now = 5.1
    run.generation.end(Ending.DEADLINE)
    assert breaks(server) == {"stalled": 1, "cut": 1}


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.DEADLINE, Ending.FAILED])
def test_a_stream_that_ends_before_its_answer_is_cut(ending: Ending) -> None:
    @on_a_loop
    async def cut() -> None:
        server = service()
        run = server.ask(stream=True)
        server.hand.give(run, "2")
        run.generation.end(ending)
        assert breaks(server) == {"stalled": 0, "cut": 1}

    cut()


@on_a_loop
async def test_without_a_stream_or_a_first_token_there_is_nothing_to_break() -> None:
    server = service()
    whole, early = server.ask(), server.ask(stream=True)
    server.hand.give(whole, "2")
    server.now = 9.0
    for run in (whole, early):
        run.generation.end(Ending.CANCELLED)
    assert breaks(server) == {"stalled": 0, "cut": 0}


@on_a_loop
async def test_a_classs_breaks_are_told_from_zero() -> None:
    server = service()
    assert BROKEN + "{" not in server.metrics_text()
    server.ask()
    told = [line for line in server.metrics_text().splitlines() if line.startswith(BROKEN + "{")]
    assert len(told) == 2
    assert all(line.endswith(" 0.0") for line in told)


@on_a_loop
async def test_a_request_that_finds_the_queue_full_is_refused_and_not_timed() -> None:
    server = service(max_requests_per_batch=1, max_queue=0)
    server.ask()
    with pytest.raises(ApiError):
        server.ask()
    metrics = server.metrics_text()
    assert series(metrics, "serving_requests_refused_total", traffic="user", code="queue_full") == 1
    assert series(metrics, "serving_requests_finished_total", reason="refused", **USERS) == 1
    assert series(metrics, "serving_requests_started_total", **USERS) == 2
    assert series(metrics, f"{QUEUE}_count") == 1


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"model": "other"}, "model_not_found"),
        ({"n": 3}, "invalid_value"),
        ({"max_tokens": 2000}, "context_length_exceeded"),
    ],
)
def test_a_refusal_is_counted_by_the_code_that_the_client_is_told(parameters: dict[str, object], code: str) -> None:
    server = answering()
    assert asked(server, **parameters).json()["error"]["code"] == code
    assert series(server.metrics_text(), "serving_requests_refused_total", traffic="user", code=code) == 1


def test_a_drills_failure_is_no_refusal() -> None:
    server = answering("error:1")
    asked(server)
    assert "serving_requests_refused_total{" not in server.metrics_text()
    assert series(server.metrics_text(), "serving_requests_finished_total", reason="failed", **USERS) == 1


def test_histograms_have_the_edges_that_are_configured() -> None:
    configured = Settings.from_environment({"SERVING_TIME_BUCKETS_SECONDS": "0.1,0.7,12"})
    server = answering(time_buckets_seconds=configured.time_buckets_seconds)
    asked(server)
    edges = re.findall(r'(serving_\w+)_bucket{.*le="(.*?)"', server.metrics_text())
    assert len(edges) == 4 * 4
    assert {edge for _, edge in edges} == {"0.1", "0.7", "12.0", "+Inf"}


def some_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = Counter("a", "counts \\ and\nmore", ["z", "b"], registry=registry)
    counter.labels('quoted "\\', "two\nlines").inc(3_000_000)
    counter.labels("ä", "").inc(0.1)
    Gauge("g", "a gauge", ["x"], registry=registry).labels("1").set(-1e-7)
    Histogram("h", "times", ["x"], buckets=(0.5, 1e7), registry=registry).labels("1").observe(7)
    return registry


def test_the_format_is_that_of_prometheus_client_to_the_byte() -> None:
    registry = some_registry()
    exposition = Exposition(registry)
    assert exposition.text() == generate_latest(registry)
    assert exposition.text() == generate_latest(registry), "the second time from memory"


def fastest_seconds(work: Callable[[], object], times: int = 7) -> float:
    """The least of several measurements: other processes only ever add."""

    def seconds() -> float:
        started = perf_counter()
        work()
        return perf_counter() - started

    return min(seconds() for _ in range(times))


def test_a_reading_of_1400_series_takes_much_less_time_than_with_prometheus_client() -> None:
    registry = CollectorRegistry()
    times = Histogram("t", "times", ["revision", "version", "traffic", "prompt_class"], registry=registry)
    for number in range(90):
        times.labels("r1", "v1", "user", str(number)).observe(number)
    exposition = Exposition(registry)
    assert exposition.text().count(b"\n") > 1400
    assert fastest_seconds(exposition.text) < 0.8 * fastest_seconds(lambda: generate_latest(registry))


def test_late_requests_are_counted_at_the_edges_that_they_have_passed() -> None:
    metrics = Metrics("r1", "v1", (1, 2, 4))
    late = [UnderWay("user", "1-32", age, has_token) for age, has_token in ((1.0, False), (2.5, True), (9.0, False))]
    told = metrics.exposition(0, 0, late).decode()
    longer = {
        metric: [series(told, "serving_requests_running_longer", metric=metric, le=le) for le in ("1.0", "2.0", "4.0")]
        for metric in ("ttft", "e2e")
    }
    assert longer == {"ttft": [1, 1, 1], "e2e": [2, 2, 1]}
