"""A release's evidence by Prometheus where everything is real: the sandbox's gateway, pods, and what they expose."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from operator import eq
from pathlib import Path

import pytest
from prometheus_server import RunningPrometheus, eventually, prometheus, target

from sluice.evidence.prometheus import PrometheusTelemetry
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.ports import Timing, Totals
from tests.integration.sandbox.live_sandbox import LiveSandbox, sandbox_command, up_options

pytestmark = pytest.mark.slow

LIMITS = {"e2e": 0.5, "in_flight": 20.0}
REQUESTS, PROBES = 20, 5


def measured_bundle(bundles: Path) -> str:
    """A bundle that runs the stand-in which counts; returns the image that names it."""
    digest = hashlib.sha256(b"measured").hexdigest()
    (directory := bundles / digest).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("measured_stand_in.py"), directory / "server.py")
    (directory / "bundle.json").write_text(json.dumps({"entrypoint": ["python", "server.py"], "env": {}, "labels": {}}))
    return f"registry.test/measured@sha256:{digest}"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[LiveSandbox]:
    """Version `one` with two pods has everything."""
    state, bundles = tmp_path / "state", tmp_path / "bundles"
    image = measured_bundle(bundles)
    started = sandbox_command("up", state, *up_options(bundles))
    live = None
    try:
        assert started.returncode == 0, started.stderr
        live = LiveSandbox(state, image)
        live.subsets("one")
        live.deploy("one", replicas=2)
        live.weights(one=100)
        live.until_served("one")
        yield live
    finally:
        if live:
            live.close()
        assert sandbox_command("down", state).returncode == 0


@pytest.fixture
def scraping(sandbox: LiveSandbox, tmp_path: Path) -> Iterator[RunningPrometheus]:
    targets = [target(sandbox.described[name]) for name in ("metrics_url", "federate_url")]
    (directory := tmp_path / "prometheus").mkdir()
    with prometheus(directory, *targets, scrape_interval="1s") as running:
        yield running


async def test_users_requests_are_told_by_version_and_by_pod(sandbox: LiveSandbox, scraping: RunningPrometheus) -> None:
    urls = [sandbox.described["metrics_url"], sandbox.described["federate_url"]]
    async with (
        PrometheusTelemetry(scraping.url, interval=timedelta(seconds=4)) as telemetry,
        ScrapedTelemetry(urls) as scraped,
    ):
        # From here on what both pods count belongs to windows.
        await eventually(lambda: by_pod(telemetry), lambda seen: len(seen) == 2)
        total = (await scraped.totals(["one"], LIMITS))["one"].started + REQUESTS
        for headers in [{}] * REQUESTS + [{"x-sluice-probe": "canary-t0k3n"}] * PROBES:
            assert sandbox.gateway.get("/", headers=headers).status_code == 200
        expected = await eventually(lambda: scraped.totals(["one"], LIMITS), partial(all_counted, total=total))
        await eventually(lambda: telemetry.totals(["one"], LIMITS), partial(eq, expected))
        slow = await eventually(lambda: by_pod(telemetry), lambda seen: sum(seen.values()) == REQUESTS)
    assert all(pod.startswith("arithmetic-one-") for pod in slow)


async def by_pod(telemetry: PrometheusTelemetry) -> Mapping[str, int]:
    """Pod → slow requests in the windows of the last two minutes."""
    slow: dict[str, int] = defaultdict(int)
    for window in await telemetry.past("one", LIMITS, timedelta(seconds=5), 24):
        for pod, totals in window.items():
            slow[pod] += totals.timings["e2e"]["short"].slow
    return slow


def all_counted(seen: Mapping[str, Totals], total: int) -> bool:
    one = seen["one"]
    slow = one.timings["e2e"]["short"]
    return (one.started, one.answered, one.attempts, one.completed, slow) == (*[total] * 4, Timing(total, total))
