"""Times of requests: each is timed once whatever becomes of it, and a late one is slow before it ends."""

import math
from random import Random

from hand_driven import HandService, on_a_loop
from server_process import series

from serving.config import TIME_BUCKETS_SECONDS
from serving.generation import Ending
from serving.run import Run

HISTOGRAMS = {"ttft": "serving_time_to_first_token_seconds", "e2e": "serving_request_duration_seconds"}
LONGER = "serving_requests_running_longer"
USERS = {"revision": "r1", "version": "v1", "traffic": "user", "prompt_class": "1-32"}


def service(fault: str = "") -> HandService:
    return HandService(fault, Random(0), max_requests_per_batch=3)


def slow(metrics: str, metric: str, edge: float) -> float:
    """The slow requests so far, as a reader of the metrics counts them."""
    name, le = HISTOGRAMS[metric], str(float(edge))
    late = series(metrics, f"{name}_count", **USERS) - series(metrics, f"{name}_bucket", le=le, **USERS)
    return late + series(metrics, LONGER, metric=metric, le=le, **USERS)


@on_a_loop
async def test_a_request_is_slow_as_soon_as_it_is_too_late_and_no_sooner() -> None:
    server = service()
    run = server.ask()
    server.now = 1.0
    assert slow(server.metrics_text(), "ttft", 1) == 0, "a bucket's edge belongs to the bucket"
    server.now = 1.01
    assert [slow(server.metrics_text(), metric, 1) for metric in HISTOGRAMS] == [1, 1]
    server.hand.give(run, "2")
    assert series(server.metrics_text(), LONGER, metric="ttft") == 0
    server.now = 4.0
    server.hand.give(run, "", finished=True)
    assert [slow(server.metrics_text(), metric, 1) for metric in HISTOGRAMS] == [1, 1]
    assert [slow(server.metrics_text(), metric, 3) for metric in HISTOGRAMS] == [0, 1]


@on_a_loop
async def test_every_admitted_request_is_timed_once_however_it_ends() -> None:
    server = service()
    for number, ending in enumerate(Ending, 1):
        server.ask().generation.end(ending)
        server.now += 1
        for name in HISTOGRAMS.values():
            assert series(server.metrics_text(), f"{name}_count", **USERS) == number


@on_a_loop
async def test_without_a_first_token_the_time_to_it_is_the_duration() -> None:
    server = service()
    run = server.ask()
    server.now = 7.0
    run.generation.end(Ending.CANCELLED)
    sums = [series(server.metrics_text(), f"{name}_sum", **USERS) for name in HISTOGRAMS.values()]
    assert sums == [7.0, 7.0]


@on_a_loop
async def test_a_series_appears_with_the_first_late_request_and_goes_back_to_zero() -> None:
    server = service()
    run = server.ask()
    assert LONGER + "{" not in server.metrics_text()
    server.now = 0.025
    assert series(server.metrics_text(), LONGER, metric="e2e", le="0.02", **USERS) == 1
    assert 'le="0.03"' not in "".join(line for line in server.metrics_text().splitlines() if line.startswith(LONGER))
    run.generation.end(Ending.CANCELLED)
    lines = [line for line in server.metrics_text().splitlines() if line.startswith(LONGER + "{")]
    assert len(lines) == 2 * TIME_BUCKETS_SECONDS.index(0.03)
    assert all(line.endswith(" 0.0") for line in lines)


@on_a_loop
async def test_a_request_that_waits_for_its_turn_grows_late_like_others() -> None:
    server = service()
    for _ in range(5):
        server.ask()
    server.now = 2.0
    assert series(server.metrics_text(), "serving_requests_waiting") == 2
    assert slow(server.metrics_text(), "ttft", 1.5) == 5


class Truth:
    """Requests with their true times, kept beside the server."""

    def __init__(self) -> None:
        self.arrived: dict[Run, float] = {}
        self.first: dict[Run, float] = {}
        self.ended: dict[Run, float] = {}

    def slow(self, metric: str, edge: float, now: float) -> int:
        def age(run: Run) -> float:
            end = self.ended.get(run, now)
            return (end if metric == "e2e" else self.first.get(run, end)) - self.arrived[run]

        return sum(age(run) > edge for run in self.arrived)


def step(server: HandService, truth: Truth, rng: Random) -> None:
    """One thing happens: a request comes, gets a token, ends in one way or another, or only time passes."""
    server.now += rng.choice([0, 0.004, 0.05, 0.6, 4])
    running = [run for run in truth.arrived if run not in truth.ended]
    match rng.randrange(4):
        case 0 if len(running) < 8:
            truth.arrived[server.ask()] = server.now
        case 1 if served := [run for run in running if run.id in server.hand.requests]:
            run = rng.choice(served)
            server.hand.give(run, "7", finished=rng.random() < 0.3)
            truth.first.setdefault(run, server.now)
        case 2 if running:
            rng.choice(running).generation.end(rng.choice([Ending.CANCELLED, Ending.DEADLINE, Ending.FAILED]))
    for run in running:
        if run.generation.ending is not None:
            truth.ended[run] = server.now


@on_a_loop
async def test_slow_requests_never_become_fewer_and_none_counts_twice() -> None:
    for seed in range(5):
        server, truth, rng = service("hang:0.3"), Truth(), Random(seed)
        before = dict.fromkeys(((metric, edge) for metric in HISTOGRAMS for edge in (0.005, 0.5, 1, 10)), -math.inf)
        for _ in range(150):
            step(server, truth, rng)
            metrics = server.metrics_text()
            for (metric, edge), least in before.items():
                count = slow(metrics, metric, edge)
                assert count == truth.slow(metric, edge, server.now)
                assert count >= least
                before[metric, edge] = count
        assert truth.ended


@on_a_loop
async def test_answers_and_their_events_are_counted_from_zero() -> None:
    server = service()
    run = server.ask()
    events = "serving_answer_events_total"
    started = [
        line for line in server.metrics_text().splitlines() if line.startswith((events, "serving_answers_total"))
    ]
    assert len(started) == 6
    assert all(line.endswith(" 0.0") for line in started)
    server.hand.give(run, "   ", finished=True)
    server.ask().generation.end(Ending.CANCELLED)
    metrics = server.metrics_text()
    assert series(metrics, "serving_answers_total", **USERS) == 1
    assert series(metrics, events, event="empty", **USERS) == series(metrics, events, event="truncated", **USERS) == 1
    assert series(metrics, events) == 2
