"""What is counted for whom, read from real expositions over HTTP."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from math import inf

import pytest
from prometheus_client import CollectorRegistry

from sluice.errors import BadInput, Unreachable
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.ports import Timing, Totals
from tests.unit.evidence.expositions import Gateway, Port, Servers, exposed, served

LIMITS = {"ttft": 0.5, "tpot": 0.05, "e2e": 20.0, "in_flight": 20.0}


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
    servers.first_token(9.0, traffic="synthetic")
    servers.under_way("e2e", 21.0, 3, traffic="synthetic")
    servers.answered(5, "empty", traffic="synthetic")
    totals = await read(gateway, servers)
    assert (totals.started, totals.answered, totals.timings["ttft"]) == (2, 0, {})
    assert (totals.overdue, totals.completed, totals.behaviour) == (0, 0, {})


async def test_slow_requests_are_those_over_the_limit_by_stratum() -> None:
    servers = Servers()
    servers.first_token(0.1, 0.5, 0.6)
    servers.first_token(3.0, prompt="long")
    assert (await read(servers)).timings["ttft"] == {"short": Timing(3, 1), "long": Timing(1, 1)}


async def test_the_time_per_token_is_compared_within_both_lengths() -> None:
    servers = Servers()
    servers.per_token(0.01, 0.06)
    servers.per_token(0.06, output="short")
    servers.ended(21.0)
    timings = (await read(servers)).timings
    assert timings["tpot"] == {"short/long": Timing(2, 1), "short/short": Timing(1, 1)}
    assert timings["e2e"] == {"short": Timing(1, 1)}


async def test_a_request_under_way_counts_as_slow_once_it_is_and_not_again_when_it_ends() -> None:
    servers = Servers()
    servers.first_token(0.1)
    servers.under_way("ttft", 0.6, 2)
    with exposed(servers.registry) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            under_way = await telemetry.totals(["v1"], LIMITS)
            servers.under_way("ttft", 0.0, 0)
            servers.first_token(0.9, 0.9)
            assert under_way["v1"].timings["ttft"] == {"short": Timing(3, 2)}
            assert (await telemetry.totals(["v1"], LIMITS))["v1"].timings["ttft"] == {"short": Timing(3, 2)}


async def test_requests_that_hang_count_before_any_other_has_ended() -> None:
    servers = Servers()
    servers.under_way("e2e", 21.0, 4)
    totals = await read(servers)
    assert (totals.overdue, totals.timings["e2e"]) == (4, {"short": Timing(4, 4)})


async def test_a_request_under_way_that_is_not_late_says_nothing_yet() -> None:
    servers = Servers()
    servers.under_way("ttft", 0.1, 1)
    totals = await read(servers)
    assert (totals.overdue, totals.timings) == (0, {"ttft": {}, "tpot": {}, "e2e": {}})


async def test_requests_that_died_with_their_server_stay_slow_but_are_not_overdue() -> None:
    """No counter falls here that could tell the restart: nothing had ended before it."""
    before, after = Servers(), Servers()
    before.under_way("e2e", 21.0, 4)
    after.under_way("e2e", 21.0, 1)
    with (port := Port(before)).exposed() as url:
        async with ScrapedTelemetry([url]) as telemetry:
            await telemetry.totals(["v1"], LIMITS)
            port.process = after
            totals = (await telemetry.totals(["v1"], LIMITS))["v1"]
            assert (totals.overdue, totals.timings["e2e"]["short"]) == (1, Timing(4, 4))
            after.under_way("e2e", 21.0, 3)
            assert (await telemetry.totals(["v1"], LIMITS))["v1"].timings["e2e"]["short"] == Timing(6, 6)


async def test_answers_and_what_was_odd_about_them_are_the_servers_own_counts() -> None:
    gateway, servers = Gateway(), Servers()
    gateway.ended("source", "200", "-", 7)
    servers.answered(9, "empty", "repeated", "empty")
    totals = await read(gateway, servers)
    assert (totals.answered, totals.completed, totals.behaviour) == (7, 9, {"empty": 2, "repeated": 1})


async def test_a_distribution_is_that_of_all_users_requests() -> None:
    one, other = Servers(), Servers()
    one.first_token(0.1, 30.0)
    one.first_token(0.01, prompt="long")
    other.first_token(0.1)
    other.first_token(9.0, traffic="synthetic")
    with exposed(one.registry) as first, exposed(other.registry) as second:
        async with ScrapedTelemetry([first, second]) as telemetry:
            found = await telemetry.distributions(["v1", "v2"])
    assert found == {"v1": {"ttft": {0.05: 1, 0.5: 3, 20.0: 3, inf: 4}}}


async def test_a_scrape_knows_no_past() -> None:
    async with ScrapedTelemetry(["http://127.0.0.1:1"]) as telemetry:
        assert await telemetry.past("v1", LIMITS, timedelta(minutes=1), 10) == ()


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


async def test_a_version_whose_series_are_gone_is_absent_until_they_are_back() -> None:
    before, after = Gateway(), Gateway()
    before.started("v1", 100)
    with (port := Port(before)).exposed() as url:
        async with ScrapedTelemetry([url]) as telemetry:
            await telemetry.totals(["v1"], LIMITS)
            port.process = after
            assert await telemetry.totals(["v1"], LIMITS) == {}
            after.started("v1", 3)
            assert (await telemetry.totals(["v1"], LIMITS))["v1"].started == 103


async def test_totals_go_on_when_a_source_starts_again() -> None:
    before, after = Gateway(), Gateway()
    before.started("v1", 100)
    after.started("v1", 3)
    with (port := Port(before)).exposed() as url:
        async with ScrapedTelemetry([url]) as telemetry:
            assert (await telemetry.totals(["v1"], LIMITS))["v1"].started == 100
            port.process = after
            assert (await telemetry.totals(["v1"], LIMITS))["v1"].started == 103


async def test_a_limit_between_the_edges_is_refused_with_the_edges() -> None:
    servers = Servers()
    servers.first_token(0.1)
    with exposed(servers.registry) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            with pytest.raises(BadInput, match=r"latency.ttft: 0.3 s is no bucket edge .* in seconds: 0.05, 0.5, 20"):
                await telemetry.totals(["v1"], {"ttft": 0.3})


async def test_a_deadline_between_the_edges_is_refused_with_the_edges() -> None:
    servers = Servers()
    servers.ended(1.0)
    with exposed(servers.registry) as url:
        async with ScrapedTelemetry([url]) as telemetry:
            with pytest.raises(
                BadInput, match=r"errors.in_flight: 60 s is no bucket edge .* in seconds: 0.05, 0.5, 20"
            ):
                await telemetry.totals(["v1"], {"in_flight": 60.0})


async def test_a_source_that_does_not_answer_is_named() -> None:
    with exposed(CollectorRegistry()) as url:
        pass
    async with ScrapedTelemetry([url]) as telemetry:
        with pytest.raises(Unreachable, match=f"the metrics at {url} cannot be read"):
            await telemetry.totals(["v1"], LIMITS)


@pytest.mark.parametrize(
    "page",
    [
        "<html>log in first</html>",
        "ok",
        '# TYPE a counter\nistio_requests_total{traffic="user" 1',
        '# TYPE a counter\nistio_requests_total{traffic="user"} NaN',
    ],
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
