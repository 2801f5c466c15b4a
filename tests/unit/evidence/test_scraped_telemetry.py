"""What is counted for whom, read from real expositions over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import MetricsHandler

from sluice.errors import BadInput, Unreachable
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.ports import Timing, Totals

LIMITS = {"ttft": 0.5, "tpot": 0.05, "e2e": 20.0}
EDGES = (0.05, 0.5, 20.0)
CLASSES = ["version", "traffic", "prompt_class", "output_class"]


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
    """The model servers' histograms, federated."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("time_to_first_token", "time_per_output_token", "request_duration")
        self._histograms = {
            name: Histogram(f"serving_{name}_seconds", name, CLASSES, buckets=EDGES, registry=self.registry)
            for name in names
        }

    def timed(
        self, name: str, *seconds: float, prompt: str = "short", output: str = "long", traffic: str = "user"
    ) -> None:
        for value in seconds:
            self._histograms[name].labels("v1", traffic, prompt, output).observe(value)


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


def answering(page: str) -> AbstractContextManager[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

    return served(Page)


async def read(*sources: Gateway | Servers, version: str = "v1") -> Totals:
    with exposed(sources[0].registry) as first, exposed(sources[-1].registry) as last:
        urls = [first] if len(sources) == 1 else [first, last]
        async with ScrapedTelemetry(urls) as telemetry:
            return (await telemetry.totals([version], LIMITS))[version]


async def test_started_requests_are_envoys_own() -> None:
    gateway = Gateway()
    gateway.started("v1", 7)
    gateway.ended("source", "200", "-", 5)
    assert (await read(gateway)).started == 7


@pytest.mark.parametrize(
    ("code", "flags", "answered", "failed"),
    [
        ("200", "-", 3, 0),
        ("404", "-", 3, 0),
        ("429", "-", 3, 3),
        ("408", "-", 3, 3),
        ("400", "DPE", 3, 0),
        ("500", "-", 3, 3),
        ("503", "UF,URX", 3, 3),
        ("0", "-", 3, 3),
        ("200", "UC", 3, 3),
        ("200", "SI", 3, 3),
        ("200", "DC", 0, 0),
        ("0", "DC", 0, 0),
        ("0", "DR", 0, 0),
        ("503", "DC", 3, 3),
    ],
)
async def test_what_users_got(code: str, flags: str, answered: int, failed: int) -> None:
    gateway = Gateway()
    gateway.ended("source", code, flags, 3)
    totals = await read(gateway)
    assert (totals.answered, totals.failed) == (answered, failed)


async def test_attempts_show_what_retries_hide() -> None:
    gateway = Gateway()
    gateway.ended("source", "200", "-", 10)
    gateway.ended("destination", "200", "-", 10)
    gateway.ended("destination", "503", "-", 4)
    totals = await read(gateway)
    assert (totals.answered, totals.failed) == (10, 0)
    assert (totals.attempts, totals.attempts_failed) == (14, 4)


async def test_a_failure_that_no_pod_saw_is_an_attempt_all_the_same() -> None:
    gateway = Gateway()
    gateway.ended("source", "503", "UF,URX", 2)
    gateway.ended("source", "503", "UC", 1)
    gateway.ended("destination", "0", "-", 1)
    totals = await read(gateway)
    assert (totals.attempts, totals.attempts_failed) == (3, 3)


async def test_probes_are_not_users() -> None:
    gateway, servers = Gateway(), Servers()
    gateway.started("v1", 2)
    gateway.started("v1", 50, traffic="synthetic")
    gateway.ended("source", "500", "-", 50, traffic="synthetic")
    servers.timed("time_to_first_token", 9.0, traffic="synthetic")
    totals = await read(gateway, servers)
    assert (totals.started, totals.answered, totals.timings["ttft"]) == (2, 0, {})


async def test_slow_requests_are_those_over_the_limit_by_stratum() -> None:
    servers = Servers()
    servers.timed("time_to_first_token", 0.1, 0.5, 0.6)
    servers.timed("time_to_first_token", 3.0, prompt="long")
    assert (await read(servers)).timings["ttft"] == {"short": Timing(3, 1), "long": Timing(1, 1)}


async def test_the_time_per_token_is_compared_within_both_lengths() -> None:
    servers = Servers()
    servers.timed("time_per_output_token", 0.01, 0.06)
    servers.timed("time_per_output_token", 0.06, output="short")
    servers.timed("request_duration", 21.0)
    timings = (await read(servers)).timings
    assert timings["tpot"] == {"short/long": Timing(2, 1), "short/short": Timing(1, 1)}
    assert timings["e2e"] == {"short": Timing(1, 1)}


async def test_sources_are_added_up_per_version() -> None:
    one, other = Gateway(), Gateway()
    one.started("v1", 3)
    other.started("v1", 4)
    other.started("v2", 90)
    assert (await read(one, other)).started == 7


async def test_a_version_without_a_series_is_absent() -> None:
    gateway = Gateway()
    gateway.started("v1", 3)
    with exposed(gateway.registry) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            assert list(await telemetry.totals(["v2", "v1"], LIMITS)) == ["v1"]


async def test_totals_go_on_when_a_source_starts_again() -> None:
    before, after = Gateway(), Gateway()
    before.started("v1", 100)
    after.started("v1", 3)
    with exposed(before.registry) as url:
        telemetry = ScrapedTelemetry([url])
        assert (await telemetry.totals(["v1"], LIMITS))["v1"].started == 100
        before.registry.unregister(before._started)
        before.registry.register(after._started)
        assert (await telemetry.totals(["v1"], LIMITS))["v1"].started == 103
        await telemetry.aclose()


async def test_a_limit_between_the_edges_is_refused_with_the_edges() -> None:
    servers = Servers()
    servers.timed("time_to_first_token", 0.1)
    with exposed(servers.registry) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            with pytest.raises(BadInput, match=r"latency.ttft: 0.3 s is no bucket edge .* in seconds: 0.05, 0.5, 20"):
                await telemetry.totals(["v1"], {"ttft": 0.3})


async def test_a_source_that_does_not_answer_is_named() -> None:
    with exposed(CollectorRegistry()) as url:
        pass
    async with ScrapedTelemetry([url]) as telemetry:
        with pytest.raises(Unreachable, match=f"the metrics at {url} cannot be read"):
            await telemetry.totals(["v1"], LIMITS)


@pytest.mark.parametrize(
    "page", ["<html>log in first</html>", "ok", '# TYPE a counter\nistio_requests_total{traffic="user" 1']
)
async def test_a_page_that_is_no_exposition_is_not_read_as_no_data(page: str) -> None:
    with answering(page) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            with pytest.raises(Unreachable, match="answers, but not with Prometheus metrics"):
                await telemetry.totals(["v1"], LIMITS)


async def test_an_empty_exposition_says_nothing_of_any_version() -> None:
    with exposed(CollectorRegistry()) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            assert await telemetry.totals(["v1"], LIMITS) == {}
