"""The sides: real processes on this machine with one thread of torch each, idle between their turns."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from benchmarks.server.workload import Ask

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / ".venv-serving" / "bin"
START_SECONDS = 300.0
STOP_SECONDS = 60.0
KV_CACHE_TOKENS = 16384
BATCH_TOKENS = 512
PAGE_TOKENS = 256
"""transformers' default."""


class SideFailed(Exception):
    """A side does not come up, or died; the message names its log."""


@dataclass(frozen=True)
class Side:
    """How to start one server; `{port}` in the command or the variables is the port that it gets."""

    name: str
    command: Sequence[str]
    health: str
    """Path that answers 200 once requests may come."""
    variables: Mapping[str, str] = field(default_factory=dict)


def ours(model: Path, **settings: object) -> Side:
    """The server as the image runs it; settings as SERVING_* without the prefix."""
    variables = {
        "PYTHONPATH": str(ROOT / "model_image"),
        "MODEL_DIR": str(model),
        "PORT": "{port}",
        "SERVING_UI": "0",
        "SERVING_KV_CACHE_TOKENS": str(KV_CACHE_TOKENS),
        "SERVING_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
        "SERVING_DRAIN_DELAY_SECONDS": "0",
    }
    variables |= {f"SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    return Side("ours", [str(SERVING / "python"), "-m", "serving"], "/readyz", variables)


def single(model: Path) -> Side:
    """`generate` behind HTTP, one request at a time."""
    command = [str(SERVING / "python"), "-m", "benchmarks.server.single", str(model), "{port}"]
    return Side("single", command, "/health")


def transformers_serve(model: Path) -> Side:
    """`transformers serve --continuous-batching`, with as much cache and as large steps as ours.

    Without a number of blocks it takes 60 % of the machine's free memory for its cache, and half a minute to fill it.
    """
    command = [str(SERVING / "transformers"), "serve", str(model), "--continuous-batching", "--device", "cpu"]
    command += ["--cb-num-blocks", str(KV_CACHE_TOKENS // PAGE_TOKENS), "--cb-max-batch-tokens", str(BATCH_TOKENS)]
    return Side("transformers serve", [*command, "--host", "127.0.0.1", "--port", "{port}"], "/health")


@dataclass(frozen=True)
class Running:
    """A side that answers."""

    name: str
    url: str
    health: str
    pid: int


@contextlib.contextmanager
def running(side: Side, logs: Path) -> Iterator[Running]:
    """Start a side, wait until it answers, stop it in the end. Raises SideFailed."""
    port = str(_free_port())
    log = logs / f"{side.name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in side.command],
            env=_environment({name: value.format(port=port) for name, value in side.variables.items()}),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_up(process, f"{url}{side.health}", log)
        yield Running(side.name, url, f"{url}{side.health}", process.pid)
        if process.poll() is not None:
            raise SideFailed(f"{side.name} ended by itself with {process.returncode}: see {log}")
    finally:
        _stop(process)


class InProcess:
    """The loop without a server, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def tokens_per_second(self, asks: Sequence[Ask]) -> float:
        """Of `generate`, one request after the other. Raises SideFailed."""
        self._input.write(json.dumps([(ask.prompt, ask.max_tokens) for ask in asks]) + "\n")
        self._input.flush()
        found = json.loads(self.line())
        if all(ask.exact for ask in asks) and found["tokens"] != sum(ask.max_tokens for ask in asks):
            raise SideFailed(f"the loop in its process gave {found['tokens']} tokens, not what was asked")
        return float(found["tokens"] / found["seconds"])

    def line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SideFailed(f"the loop in its process has ended: see {self._log}")
        return line

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin


@contextlib.contextmanager
def in_process(model: Path, logs: Path) -> Iterator[InProcess]:
    """The loop, loaded. Raises SideFailed."""
    log = logs / "in-process.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(SERVING / "python"), "-m", "benchmarks.server.inprocess", str(model)],
            env=_environment({}),
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        loop = InProcess(process, log)
        loop.line()
        yield loop
    finally:
        _stop(process)


def write_random_model(directory: Path) -> None:
    """The random model, unless it is there. Raises SideFailed."""
    if (directory / "tokenizer.json").exists():
        return
    command = [str(SERVING / "python"), "-m", "benchmarks.server.random_model", str(directory)]
    done = subprocess.run(command, env=_environment({}), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideFailed(f"the random model could not be written: {done.stderr[-500:]}")


def _environment(variables: dict[str, str]) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
    return outside | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | variables


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(health, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise SideFailed(f"{health} does not answer: see {log}")


def _stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
