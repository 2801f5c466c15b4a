"""What a real Prometheus tells of users' requests, when it scrapes what a gateway and model servers expose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from operator import eq
from pathlib import Path

import httpx
import pytest
from prometheus_server import Pods, eventually, prometheus

from sluice.errors import BadInput, Unreachable
from sluice.evidence.prometheus import PrometheusTelemetry
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.ports import Timing, Totals
from tests.unit.evidence.expositions import Gateway, Servers

pytestmark = pytest.mark.slow

LIMITS = {"ttft": 0.5, "tpot": 0.05, "e2e": 20.0, "in_flight": 20.0}
INTERVAL = timedelta(seconds=1)
"""Five times as long as the real one: a busy machine that scrapes late does not end a series."""
NUMBERS = count()


@dataclass(frozen=True)
class Stage:
    """One Prometheus for all tests, and what it scrapes."""

    url: str
    pods: Pods
    unnamed: Pods
    """Told by `instance` alone."""
    callers: Pods
    """Pods of another version, whose label `version` is their own."""

    def telemetry(self, interval: timedelta = INTERVAL) -> PrometheusTelemetry:
        return PrometheusTelemetry(self.url, interval=interval)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    kinds = Pods(16), Pods(2, "instance"), Pods(1, version="caller")
    targets = [target for pods in kinds for target in pods.targets]
    with prometheus(tmp_path_factory.mktemp("prometheus"), *targets) as running:
        yield Stage(running.url, *kinds)
    for pods in kinds:
        pods.end()


@pytest.fixture
def version() -> str:
    """A version that no other test has."""
    return f"v{next(NUMBERS)}"


def reading(telemetry: PrometheusTelemetry, version: str) -> Callable[[], Awaitable[Totals]]:
    """Looks at a version, which may be absent."""

    async def look() -> Totals:
        return (await telemetry.totals([version], LIMITS)).get(version, Totals())

    return look


def gateway(version: str, traffic: str = "user", times: int = 1) -> Gateway:
    """12 started, 11 answered, 2 of them failed."""
    made = Gateway()
    made.started(version, 12 * times, traffic)
    made.ended("source", "200", "-", 9 * times, version, traffic)
    made.ended("source", "503", "UF,URX", 2 * times, version, traffic)
    made.ended("destination", "500", "-", 1 * times, version, traffic)
    return made


def server(version: str, answers: int = 8, late: int = 2) -> Servers:
    """A bit of everything."""
    made = Servers(version)
    made.first_token(0.1, 0.6, 7.0)
    made.first_token(0.01, prompt="long")
    made.per_token(0.01, 0.3)
    made.ended(3.0, 21.0)
    made.under_way("e2e", 21.0, late)
    made.answered(answers, "empty", "repeated")
    return made


async def test_a_prometheus_and_a_scrape_tell_the_same(stage: Stage, version: str) -> None:
    urls = [stage.pods.run(gateway(version)).url, stage.pods.run(server(version)).url]
    async with stage.telemetry() as telemetry, ScrapedTelemetry(urls) as scraped:
        expected = await scraped.totals([version], LIMITS)
        assert (expected[version].overdue, expected[version].started) == (2, 12)
        await eventually(lambda: telemetry.totals([version], LIMITS), partial(eq, expected))
        assert await telemetry.distributions([version, "other"]) == await scraped.distributions([version])


async def test_probes_are_not_counted(stage: Stage, version: str) -> None:
    servers = server(version)
    servers.first_token(9.0, traffic="synthetic")
    servers.answered(50, "empty", traffic="synthetic")
    stage.pods.run(gateway(version, "synthetic", 50))
    stage.pods.run(servers)
    async with stage.telemetry() as telemetry:
        seen = await eventually(reading(telemetry, version), lambda seen: seen.completed > 0)
        assert (seen.started, seen.answered, seen.completed, seen.behaviour["empty"]) == (0, 0, 8, 1)
        assert seen.timings["ttft"]["short"] == Timing(3, 2)


async def test_users_are_told_by_whom_they_reach_and_not_by_who_they_are(stage: Stage, version: str) -> None:
    stage.callers.run(gateway(version))
    async with stage.telemetry() as telemetry:
        await eventually(reading(telemetry, version), lambda seen: seen.started == 12)
        assert "caller" not in await telemetry.totals(["caller"], LIMITS)


async def test_a_version_without_series_is_absent_where_others_have_some(stage: Stage, version: str) -> None:
    stage.pods.run(gateway(version))
    async with stage.telemetry() as telemetry:
        await eventually(lambda: telemetry.totals([version, "v"], LIMITS), lambda seen: list(seen) == [version])


async def test_counts_go_on_when_a_pod_starts_again_even_twice_between_two_looks(stage: Stage, version: str) -> None:
    stage.pods.run(server(version, answers=1000))
    pod = stage.pods.run(server(version, answers=100))
    async with stage.telemetry(4 * INTERVAL) as telemetry:
        await eventually(reading(telemetry, version), lambda seen: seen.completed == 1100)
        for answers in (50, 4):
            pod.run(server(version, answers))
            await eventually(completed_now(stage.url, version), partial(eq, 1000 + answers))
        assert (await reading(telemetry, version)()).completed == 1154


def completed_now(url: str, version: str) -> Callable[[], Awaitable[float]]:
    """What Prometheus has at this moment, without any memory."""

    async def look() -> float:
        query = {"query": f'sum(serving_answers_total{{version="{version}"}})'}
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{url}/api/v1/query", params=query)
        return float(answer.json()["data"]["result"][0]["value"][1])

    return look


async def test_a_pod_that_ended_keeps_its_counts_but_has_nothing_under_way(stage: Stage, version: str) -> None:
    stage.pods.run(server(version, late=2))
    pod = stage.pods.run(server(version, late=3))
    async with stage.telemetry() as telemetry:
        before = await eventually(reading(telemetry, version), lambda seen: seen.overdue == 5)
        pod.end()
        seen = await eventually(reading(telemetry, version), lambda seen: seen.overdue == 2)
        assert (seen.completed, seen.timings) == (16, before.timings)

    async def anew() -> int:
        async with stage.telemetry() as telemetry:
            return (await reading(telemetry, version)()).completed

    await eventually(anew, lambda completed: completed == 8)


async def test_a_version_whose_pods_have_ended_becomes_absent(stage: Stage, version: str) -> None:
    pod = stage.pods.run(server(version))
    async with stage.telemetry() as telemetry:
        await eventually(reading(telemetry, version), lambda seen: seen.completed == 8)
        pod.end()
        await eventually(lambda: telemetry.totals([version], LIMITS), lambda seen: seen == {})


async def test_a_prometheus_that_stopped_is_not_one_without_series(tmp_path: Path) -> None:
    with prometheus(tmp_path) as running:
        async with PrometheusTelemetry(running.url) as telemetry:
            assert await telemetry.totals(["v1"], LIMITS) == {}
            running.stop()
            with pytest.raises(Unreachable, match=r"Prometheus does not answer at http.*try `curl -G http"):
                await telemetry.totals(["v1"], LIMITS)
            with pytest.raises(Unreachable):
                await telemetry.past("v1", LIMITS, timedelta(minutes=1), 3)


async def test_a_limit_between_the_edges_is_refused_with_the_edges(stage: Stage, version: str) -> None:
    stage.pods.run(server(version))
    async with stage.telemetry() as telemetry:
        await eventually(reading(telemetry, version), lambda seen: seen.completed > 0)
        with pytest.raises(BadInput, match=r"latency.ttft: 0.3 s is no bucket edge .* 0.05, 0.5, 20"):
            await telemetry.totals([version], {"ttft": 0.3})


@pytest.mark.parametrize("kind", ["pods", "unnamed"])
async def test_the_past_tells_what_each_pod_counted_since_it_was_seen(stage: Stage, version: str, kind: str) -> None:
    pods: Pods = getattr(stage, kind)
    servers = server(version), server(version)
    one, other = (pods.run(process).name for process in servers)
    stage.pods.run(gateway(version))
    async with stage.telemetry() as telemetry:

        async def past() -> Mapping[str, tuple[int, int]]:
            """Pod → slow first tokens and answers in the windows of the last minutes."""
            found: dict[str, tuple[int, int]] = {}
            for window in await telemetry.past(version, LIMITS, timedelta(seconds=1), 200):
                for pod, totals in window.items():
                    slow, completed = found.get(pod, (0, 0))
                    found[pod] = slow + totals.timings["ttft"]["short"].slow, completed + totals.completed
            return found

        await eventually(past, lambda seen: seen == {one: (0, 0), other: (0, 0)})
        servers[0].first_token(9.0, 9.0, 9.0)
        servers[1].answered(7)
        await eventually(past, lambda seen: seen == {one: (3, 0), other: (0, 7)})
