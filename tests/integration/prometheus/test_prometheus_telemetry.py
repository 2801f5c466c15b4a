"""What a real Prometheus tells of users' requests, when it scrapes what a gateway and model servers expose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from operator import eq
from pathlib import Path

import httpx
import pytest
from prometheus_server import eventually, prometheus, target

from sluice.errors import BadInput, Unreachable
from sluice.evidence.prometheus import PrometheusTelemetry
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.ports import Timing, Totals
from tests.unit.evidence.expositions import Gateway, Port, Servers

pytestmark = pytest.mark.slow

LIMITS = {"ttft": 0.5, "tpot": 0.05, "e2e": 20.0, "in_flight": 20.0}
INTERVAL = timedelta(seconds=1)
"""Five times as long as the real one: a busy machine that scrapes late does not end a series."""


class Stage:
    """Pods and gateways by name, each with its port, and the Prometheus that scrapes them."""

    def __init__(self, directory: Path, ports: Mapping[str, Port], labels: Mapping[str, Mapping[str, str]]) -> None:
        self._stacks = {name: ExitStack() for name in ports}
        self.urls = {name: self._stacks[name].enter_context(port.exposed()) for name, port in ports.items()}
        self._prometheus = ExitStack()
        targets = [target(url, **labels.get(name, {})) for name, url in self.urls.items()]
        self.url = self._prometheus.enter_context(prometheus(directory, *targets)).url

    def stop_prometheus(self) -> None:
        self._prometheus.close()

    def stop(self, name: str) -> None:
        self._stacks[name].close()

    def close(self) -> None:
        self._prometheus.close()
        for stack in self._stacks.values():
            stack.close()


@contextmanager
def stage(directory: Path, ports: Mapping[str, Port], **labels: Mapping[str, str]) -> Iterator[Stage]:
    with ExitStack() as closing:
        staged = Stage(directory, ports, labels or {name: {"pod": name} for name in ports})
        closing.callback(staged.close)
        yield staged


def reading(telemetry: PrometheusTelemetry) -> Callable[[], Awaitable[Totals]]:
    """Looks at version v1, which may be absent."""

    async def look() -> Totals:
        return (await telemetry.totals(["v1"], LIMITS)).get("v1", Totals())

    return look


def busy() -> tuple[Gateway, Servers]:
    """A bit of everything."""
    gateway, servers = Gateway(), Servers()
    gateway.started("v1", 12)
    gateway.started("v2", 3)
    gateway.ended("source", "200", "-", 9)
    gateway.ended("source", "503", "UF,URX", 2)
    gateway.ended("destination", "500", "-", 1)
    servers.first_token(0.1, 0.6, 7.0)
    servers.first_token(0.01, prompt="long")
    servers.per_token(0.01, 0.3)
    servers.ended(3.0, 21.0)
    servers.under_way("e2e", 21.0, 2)
    servers.answered(8, "empty", "repeated")
    return gateway, servers


async def test_a_prometheus_and_a_scrape_tell_the_same(tmp_path: Path) -> None:
    gateway, servers = busy()
    with stage(tmp_path, {"gateway": Port(gateway), "one": Port(servers)}) as there:
        async with (
            PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry,
            ScrapedTelemetry(list(there.urls.values())) as scraped,
        ):
            expected = await scraped.totals(["v1", "v2"], LIMITS)
            assert expected["v1"].overdue == 2
            await eventually(lambda: telemetry.totals(["v1", "v2"], LIMITS), lambda seen: seen == expected)
            assert await telemetry.distributions(["v1", "v3"]) == await scraped.distributions(["v1", "v3"])


async def test_probes_and_other_versions_are_not_counted(tmp_path: Path) -> None:
    gateway, servers = busy()
    gateway.started("v1", 50, traffic="synthetic")
    gateway.ended("source", "500", "-", 50, traffic="synthetic")
    servers.first_token(9.0, prompt="short", traffic="synthetic")
    servers.answered(50, "empty", traffic="synthetic")
    with stage(tmp_path, {"gateway": Port(gateway), "one": Port(servers)}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            seen = await eventually(reading(telemetry), lambda seen: seen.started > 0 and seen.completed > 0)
            assert (seen.started, seen.answered, seen.completed, seen.behaviour["empty"]) == (12, 11, 8, 1)
            assert seen.timings["ttft"]["short"] == Timing(3, 2)
            assert await telemetry.totals(["v"], LIMITS) == {}


async def test_a_version_without_series_is_absent_where_others_have_some(tmp_path: Path) -> None:
    with stage(tmp_path, {"gateway": Port(busy()[0])}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            await eventually(lambda: telemetry.totals(["v1", "v3"], LIMITS), lambda seen: list(seen) == ["v1"])


async def test_counts_go_on_when_a_pod_starts_again_even_twice_between_two_looks(tmp_path: Path) -> None:
    one, other, pods = Servers(), Servers(), [Servers(), Servers()]
    one.answered(1000)
    other.answered(100)
    pods[0].answered(50)
    pods[1].answered(4)
    port = Port(other)
    with stage(tmp_path, {"one": Port(one), "other": port}) as there:
        async with PrometheusTelemetry(there.url, interval=2 * INTERVAL) as telemetry:
            await eventually(reading(telemetry), lambda seen: seen.completed == 1100)
            for process, shown in zip(pods, (1050, 1004), strict=True):
                port.process = process
                await eventually(completed_now(there.url), partial(eq, shown))
            assert (await reading(telemetry)()).completed == 1154


def completed_now(url: str) -> Callable[[], Awaitable[float]]:
    """What Prometheus has at this moment, without any memory."""

    async def look() -> float:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{url}/api/v1/query", params={"query": "sum(serving_answers_total)"})
        return float(answer.json()["data"]["result"][0]["value"][1])

    return look


async def test_a_pod_that_ended_keeps_its_counts_but_has_nothing_under_way(tmp_path: Path) -> None:
    one, other = Servers(), Servers()
    for pod, late in [(one, 2), (other, 3)]:
        pod.answered(10)
        pod.under_way("e2e", 21.0, late)
    with stage(tmp_path, {"one": Port(one), "other": Port(other)}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            await eventually(reading(telemetry), lambda seen: seen.overdue == 5)
            there.stop("other")
            seen = await eventually(reading(telemetry), lambda seen: seen.overdue == 2)
            assert (seen.completed, seen.timings["e2e"]["short"]) == (20, Timing(5, 5))


async def test_who_looks_anew_knows_nothing_of_a_pod_that_ended_before(tmp_path: Path) -> None:
    one, other = Servers(), Servers()
    one.answered(10)
    other.answered(10)
    with stage(tmp_path, {"one": Port(one), "other": Port(other)}) as there:

        async def anew() -> int:
            async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
                return (await reading(telemetry)()).completed

        await eventually(anew, lambda completed: completed == 20)
        there.stop("other")
        await eventually(anew, lambda completed: completed == 10)


async def test_a_version_whose_pods_have_ended_becomes_absent(tmp_path: Path) -> None:
    with stage(tmp_path, {"one": Port(busy()[1])}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            await eventually(reading(telemetry), lambda seen: seen.completed == 8)
            there.stop("one")
            await eventually(lambda: telemetry.totals(["v1"], LIMITS), lambda seen: seen == {})


async def test_a_prometheus_that_stopped_is_not_one_without_series(tmp_path: Path) -> None:
    with stage(tmp_path, {"gateway": Port(busy()[0])}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            await eventually(reading(telemetry), lambda seen: seen.started == 12)
            there.stop_prometheus()
            with pytest.raises(Unreachable, match=r"Prometheus does not answer at http.*try `curl -G http"):
                await telemetry.totals(["v1"], LIMITS)
            with pytest.raises(Unreachable):
                await telemetry.past("v1", LIMITS, timedelta(minutes=1), 3)


async def test_a_limit_between_the_edges_is_refused_with_the_edges(tmp_path: Path) -> None:
    with stage(tmp_path, {"one": Port(busy()[1])}) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:
            await eventually(reading(telemetry), lambda seen: seen.completed > 0)
            with pytest.raises(BadInput, match=r"latency.ttft: 0.3 s is no bucket edge .* 0.05, 0.5, 20"):
                await telemetry.totals(["v1"], {"ttft": 0.3})


@pytest.mark.parametrize("label", ["pod", "instance"])
async def test_the_past_tells_what_each_pod_counted_since_it_was_seen(tmp_path: Path, label: str) -> None:
    one, other = Servers(), Servers()
    for pod in (one, other):
        pod.first_token(*[9.0] * 100)
        pod.answered(100)
    names = {name: {label: name} for name in ("one", "other")}
    with stage(tmp_path, {"one": Port(one), "other": Port(other), "gateway": Port(busy()[0])}, **names) as there:
        async with PrometheusTelemetry(there.url, interval=INTERVAL) as telemetry:

            async def past() -> Mapping[str, tuple[int, int]]:
                found: dict[str, tuple[int, int]] = {}
                for window in await telemetry.past("v1", LIMITS, timedelta(seconds=1), 200):
                    for pod, totals in window.items():
                        slow, completed = found.get(pod, (0, 0))
                        timing = totals.timings["ttft"]["short"]
                        found[pod] = slow + timing.slow, completed + totals.completed
                return found

            await eventually(past, lambda seen: seen == {"one": (0, 0), "other": (0, 0)})
            one.first_token(9.0, 9.0, 9.0)
            other.answered(7)
            await eventually(past, lambda seen: seen == {"one": (3, 0), "other": (0, 7)})
