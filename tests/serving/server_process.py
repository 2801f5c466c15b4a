"""A real server in a process of its own, on a free port."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

MODEL_IMAGE = Path(__file__).resolve().parents[2] / "model_image"
REVISIONS = MODEL_IMAGE / "arithmetic"
START_SECONDS = 120
STOP_SECONDS = 20


@dataclass
class ServerProcess:
    """`client` speaks to the server; `process` is it; `log` is where its output goes."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    url: str
    log: Path

    def complete(self, prompt: str, **parameters: object) -> httpx.Response:
        return self.client.post("/v1/completions", json={"prompt": prompt} | parameters)

    def metrics(self) -> str:
        return self.client.get("/metrics").text

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def is_ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.process.poll() is not None or self.is_ready(), START_SECONDS)
        assert self.process.poll() is None, self.log.read_text()


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def environment(revision: Path, **settings: object) -> dict[str, str]:
    """The environment of a server for a revision; settings as SERVING_* without the prefix."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
    server = {
        "MODEL_DIR": str(revision),
        "MODEL_ID": "arithmetic",
        "REVISION": revision.name,
        "VERSION": "v1",
        "PORT": "0",
        "SERVING_DRAIN_DELAY_SECONDS": "0",
        "SERVING_UI": "0",
    }
    return clean | server | {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}


def spawn(variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m serving` with exactly these variables; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "serving"], env=variables, cwd=MODEL_IMAGE, stdout=output, stderr=subprocess.STDOUT
        )


@contextlib.contextmanager
def listening(revision: Path, log: Path, **settings: object) -> Iterator[ServerProcess]:
    """A server that listens, but may not be ready yet; it is gone when the block ends."""
    process = spawn(environment(revision, **settings), log)
    try:
        wait_for(lambda: b"listening on" in log.read_bytes() or process.poll() is not None, START_SECONDS)
        address = re.search(r"listening on (\S+)", log.read_text())
        assert address, log.read_text()
        url = f"http://{address[1]}"
        with httpx.Client(base_url=url, timeout=30) as client:
            yield ServerProcess(process, client, url, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextlib.contextmanager
def ready(revision: Path, log: Path, **settings: object) -> Iterator[ServerProcess]:
    """A server that is ready."""
    with listening(revision, log, **settings) as server:
        server.wait_until_ready()
        yield server


def events(body: str) -> list[Any]:
    """The events of a stream; `[DONE]` as None."""
    return [None if data == "[DONE]" else json.loads(data) for data in re.findall(r"^data: (.*)$", body, re.MULTILINE)]


def series(metrics: str, name: str, **labels: str) -> float:
    """Sum of the samples of this name that have these labels."""
    lines = [line for line in metrics.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.split()[-1]) for line in lines if all(f'{k}="{v}"' in line for k, v in labels.items()))
