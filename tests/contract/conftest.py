"""The cluster that the contract tests talk to: the sandbox's, started here, or any with Istio's CRDs (--kubeconfig)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    """`bundles` is the directory of the images that the node runs; None if it is not the sandbox's node."""

    kubeconfig: Path
    bundles: Path | None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", type=Path, help="run against this cluster instead of the sandbox's")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with the workload controllers."""
    given: Path | None = request.config.getoption("--kubeconfig", default=None)
    if given is not None:
        yield Cluster(given, None)
        return
    directory = tmp_path_factory.mktemp("cluster")
    kubeconfig, bundles = directory / "kubeconfig", directory / "bundles"
    bundles.mkdir()
    server = ["sandbox.apiserver", "--port", "0", "--database", directory / "database", "--kubeconfig", kubeconfig]
    with (
        _process(server, directory / "apiserver.log", lambda: _answers(kubeconfig)),
        _process(["sandbox.controllers", "--kubeconfig", kubeconfig], directory / "controllers.log", lambda: True),
    ):
        yield Cluster(kubeconfig, bundles)


@pytest.fixture(scope="session")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node that runs pods; yields the directory of its images."""
    if cluster.bundles is None:
        pytest.skip("the pods' images are bundles of the sandbox's node")
    directory = tmp_path_factory.mktemp("node")
    port = free_port()
    command = ["sandbox.node", "--kubeconfig", cluster.kubeconfig, "--state", directory, "--bundles", cluster.bundles]
    command += ["--runtime-path", Path(sys.executable).parent, "--port", port]
    with _process(command, directory / "node.log", lambda: _ok(f"http://127.0.0.1:{port}/healthz")):
        yield cluster.bundles


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _process(module: list[object], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    command = [sys.executable, "-m", *map(str, module)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            assert process.poll() is None, f"{module[0]} ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"{module[0]} is not ready after {START_SECONDS} s: {log.read_text()}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(kubeconfig: Path) -> bool:
    if not kubeconfig.exists():
        return False
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return _ok(f"{server}/readyz")


def _ok(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
