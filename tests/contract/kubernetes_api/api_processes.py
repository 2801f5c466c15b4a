"""Starts the API server and the controllers as processes, for the tests."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

START_SECONDS = 20.0


def wait_for(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until the condition holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


@dataclass
class ApiServer:
    """An API server process with its files in one directory; it can be stopped and started again."""

    directory: Path
    process: subprocess.Popen[str] | None = None
    port: int = 0

    @property
    def kubeconfig(self) -> Path:
        """The file that the server writes."""
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])

    def start(self) -> None:
        """Start on the port of before, or a free one, and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.apiserver", *self.arguments()], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("sandbox API server: http://"), line
        self.port = int(self.url.rpartition(":")[2])
        wait_for(lambda: _answers(f"{self.url}/readyz"), "the API server's answer")

    def arguments(self) -> list[str]:
        """The command line after the module."""
        database = self.directory / "cluster.sqlite"
        return ["--port", str(self.port), "--database", str(database), "--kubeconfig", str(self.kubeconfig)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the process and wait for its end; returns its exit code, 0 when it does not run."""
        process, self.process = self.process, None
        return 0 if process is None else end(process, number)


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """Send the signal and wait; returns the exit code."""
    process.send_signal(number)
    code = process.wait(timeout=10)
    if process.stdout is not None:
        process.stdout.close()
    return code


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


@contextlib.contextmanager
def api_server(directory: Path) -> Iterator[ApiServer]:
    """A running API server on a free port."""
    server = ApiServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def controllers(kubeconfig: Path) -> Iterator[None]:
    """Running controllers."""
    with _running("sandbox.controllers", "--kubeconfig", str(kubeconfig)):
        yield


@contextlib.contextmanager
def stand_in_node(kubeconfig: Path, log_port: int = 10250) -> Iterator[None]:
    """A node that says of every pod that it runs; `log_port` is where it says that its logs are."""
    with _running("tests.contract.kubernetes_api.stand_in_node", str(kubeconfig), str(log_port)):
        yield


@contextlib.contextmanager
def _running(module: str, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], text=True)
    try:
        yield
    finally:
        end(process)
