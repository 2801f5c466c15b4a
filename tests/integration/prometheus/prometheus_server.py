"""A real Prometheus on a free loopback port, with its own configuration and data."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.unit.evidence.expositions import Gateway, Port, Servers

T = TypeVar("T")
MISSING = "there is no `prometheus` on the PATH; install it with `apt-get install prometheus`"
_LISTENS = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')


async def eventually(look: Callable[[], Awaitable[T]], good: Callable[[T], bool], seconds: float = 60.0) -> T:
    """The first look that is good; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not good(seen := await look()):
        assert time.monotonic() < deadline, f"still after {seconds:g} s: {seen}"
        await asyncio.sleep(0.05)
    return seen


def target(url: str, **labels: str) -> Mapping[str, Any]:
    """A scrape job of one exposition; its series' own labels win over the target's, as a federation needs it."""
    place = httpx.URL(url)
    address = f"{place.host}:{place.port}"
    static = [{"targets": [address], "labels": labels}]
    return {"job_name": url, "metrics_path": place.path, "honor_labels": True, "static_configs": static}


class RunningPrometheus:
    def __init__(self, directory: Path, targets: Sequence[Mapping[str, Any]], scrape_interval: str) -> None:
        configuration = directory / "prometheus.yml"
        intervals = {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval}
        configuration.write_text(json.dumps({"global": intervals, "scrape_configs": list(targets)}))
        self._log = directory / "prometheus.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *("prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"),
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = ""

    def wait_until_ready(self, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not self._ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"not ready within {seconds:g} s: {self._log.read_text()}"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ready(self) -> bool:
        found = _LISTENS.search(self._log.read_text())
        if not found:
            return False
        self.url = f"http://{found[1]}"
        return httpx.get(f"{self.url}/-/ready", timeout=5).status_code == 200


@contextmanager
def prometheus(
    directory: Path, *targets: Mapping[str, Any], scrape_interval: str = "200ms"
) -> Iterator[RunningPrometheus]:
    """Runs until the block ends. Skips the test, saying why, where no Prometheus is installed."""
    if shutil.which("prometheus") is None:
        pytest.skip(MISSING)
    running = RunningPrometheus(directory, targets, scrape_interval)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


class Pod:
    """A port that Prometheus scrapes, and what runs there."""

    def __init__(self, name: str, labels: Mapping[str, str]) -> None:
        self.name = name
        self.port = Port(Servers())
        self._exposed = ExitStack()
        self.url = self._exposed.enter_context(self.port.exposed())
        self.target = target(self.url, **labels)

    def run(self, process: Gateway | Servers) -> Pod:
        self.port.process = process
        return self

    def end(self) -> None:
        self._exposed.close()


class Pods:
    """Pods that one Prometheus scrapes from its start on, which takes it five seconds; each test takes some of them."""

    def __init__(self, count: int, label: str = "pod", **more: str) -> None:
        self._all = [Pod(name, {label: name, **more}) for name in (f"{label}-{number}" for number in range(count))]
        self.targets = [pod.target for pod in self._all]
        self._idle = iter(self._all)

    def run(self, process: Gateway | Servers) -> Pod:
        return next(self._idle).run(process)

    def end(self) -> None:
        for pod in self._all:
            pod.end()
