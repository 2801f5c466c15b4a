"""Requests that a server's drain loses: servers behind Envoy are replaced one after the other while users ask.

The load is open and every answer is compared, to the last character, with what a server at rest says. A request is lost
if its answer is anything else: refused, broken off, incomplete, wrong. Envoy finds ready servers by /readyz, as a
kubelet does, and tries nothing again: what it hides from nobody, the servers have to do themselves.

`python -m benchmarks.server.drain` says how many requests were lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.demo.load import Mix, Planned, Question, plan, problem_of_answer, problem_of_stream, questions_of
from sandbox.gateway.envoy import Envoy
from sandbox.gateway.render import Rendered
from sandbox.gateway.routes import ROUTE_CONFIGURATION
from sandbox.gateway.xds import XdsFiles
from sandbox.processes import die_with_parent

Json = dict[str, Any]

PROJECT = Path(__file__).resolve().parents[2]
SERVER_PYTHON = PROJECT / ".venv-serving" / "bin" / "python"
MODEL_IMAGE = PROJECT / "model_image"
REVISION = "r2"
REPLICAS = 2
REPLACEMENTS = 4
DELAY_SECONDS = 2.0
START_SECONDS = 120.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 30.0
CHECK_SECONDS = 0.2
"""Between two of Envoy's looks at /readyz: the delay of a drain must be longer."""
QUESTIONS = 40
MIX = Mix(rate=32.0, long_share=0.0, stream_share=0.5)
CLUSTER = "model"
BUSY = {"fault": "late:0.4", "allow_faults": 1, "max_requests_per_batch": 64, "max_queue": 1000}
"""Answers take long enough that some run at any moment, and none is refused for want of a faster machine."""


class DrainError(Exception):
    """The drill cannot be held; the message says why and what to do."""


@dataclass(frozen=True)
class DrainFigures:
    """What a drill found."""

    requests: int
    lost: int


class Replica:
    """A model server in a process of its own, on a free port; its output goes to `log`."""

    def __init__(self, log: Path, **settings: object) -> None:
        """Start it; settings are its SERVING_* variables, without the prefix. Raises DrainError without its Python."""
        if not SERVER_PYTHON.exists():
            raise DrainError(f"{SERVER_PYTHON} does not exist: `make install` makes the servers' environment")
        self._log = log
        self.url = ""
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [SERVER_PYTHON, "-m", "serving"],
                env=_environment(settings),
                cwd=MODEL_IMAGE,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Returns when it takes requests. Raises DrainError with its last words if it does not in time."""

        async def is_ready() -> bool:
            if self._process.poll() is not None:
                raise DrainError(f"a server ended with {self._process.returncode} instead of serving: {self.said}")
            address = re.search(r"listening on (\S+)", self.said)
            self.url = f"http://{address[1]}" if address else ""
            return bool(address) and await _is_ready(session, self.url)

        if not await _within(START_SECONDS, is_ready):
            raise DrainError(f"a server is not ready after {START_SECONDS:g} s: {self.said}")

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """Its exit code when it has ended. Raises DrainError if it does not in time."""

        async def ended() -> bool:
            return self._process.poll() is not None

        if not await _within(STOP_SECONDS, ended):
            raise DrainError(f"a server still runs {STOP_SECONDS:g} s after SIGTERM: {self.said}")
        return self._process.returncode

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace").strip()


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
    model = {"MODEL_DIR": f"arithmetic/{REVISION}", "MODEL_ID": "arithmetic", "REVISION": REVISION, "VERSION": "v1"}
    server = {"PORT": "0", "SERVING_UI": "0"} | {f"SERVING_{name.upper()}": str(it) for name, it in settings.items()}
    return clean | model | server


@dataclass
class Fleet:
    """Starts replicas of one configuration, and ends what is left of them."""

    folder: Path
    session: aiohttp.ClientSession
    settings: Mapping[str, object]
    started: list[Replica] = field(default_factory=list)

    async def start(self, count: int = 1) -> list[Replica]:
        """New replicas, ready."""
        new = [
            Replica(self.folder / f"server-{len(self.started) + number}.log", **self.settings)
            for number in range(count)
        ]
        self.started += new
        await asyncio.gather(*(replica.ready(self.session) for replica in new))
        return new


@asynccontextmanager
async def fleet(folder: Path, **settings: object) -> AsyncIterator[Fleet]:
    """A fleet, and a session for its users; no replica outlives the block."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        running = Fleet(folder, session, settings)
        try:
            yield running
        finally:
            for replica in running.started:
                replica.kill()


class Users:
    """Ask at a steady rate, whether or not earlier questions are answered, and know what is right."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        choose: Callable[[], Awaitable[str]],
        answers: Mapping[str, str],
        mix: Mix = MIX,
    ) -> None:
        """`choose` says for each request where to send it; `answers` is the right text by prompt."""
        self._session = session
        self._choose = choose
        self._answers = answers
        self._mix = mix
        self.requests = 0
        self.lost: list[str] = []
        """Why, for each lost request."""

    async def ask_until(self, stop: asyncio.Event, questions: Sequence[Question]) -> None:
        """Returns when `stop` is set and everything is answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as asking:
            for planned in plan(self._mix, questions):
                await asyncio.sleep(max(0.0, began + planned.after_seconds - time.monotonic()))
                if stop.is_set():
                    return
                asking.create_task(self._ask(planned))

    async def _ask(self, planned: Planned) -> None:
        self.requests += 1
        try:
            why = self._problem(planned, *await asked(self._session, await self._choose(), planned))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = f"broken: {error!r}"
        if why:
            self.lost.append(why)

    def _problem(self, planned: Planned, status: int, body: bytes) -> str:
        if status != 200:
            return f"status {status}: {body[:200].decode(errors='replace')}"
        if incomplete := problem_of_stream(body) if planned.streamed else problem_of_answer(body):
            return incomplete
        right, text = self._answers[planned.prompt], text_of(body, planned.streamed)
        return "" if text == right else f"{text!r} instead of {right!r}"


async def asked(session: aiohttp.ClientSession, url: str, planned: Planned) -> tuple[int, bytes]:
    """Status and whole body of one greedy answer."""
    body = {"prompt": planned.prompt, "max_tokens": planned.max_tokens, "stream": planned.streamed, "temperature": 0}
    async with session.post(f"{url}/v1/completions", json=body) as response:
        return response.status, await response.read()


def text_of(body: bytes, streamed: bool) -> str:
    """The text of a complete answer."""
    chunks = [json.loads(data) for data in re.findall(rb"^data: (\{.*)$", body, re.MULTILINE)] if streamed else None
    return "".join(chunk["choices"][0]["text"] for chunk in chunks or [json.loads(body)])


def some_questions() -> list[Question]:
    """Of every category."""
    every = questions_of(PROJECT / "prompts" / "arithmetic.jsonl")
    return every[:: len(every) // QUESTIONS]


async def answers_of(session: aiohttp.ClientSession, url: str, questions: Sequence[Question]) -> dict[str, str]:
    """What a server at rest says, by prompt: the same as any other says under load."""
    planned = [Planned(0.0, "short", False, prompt, max_tokens) for prompt, _, max_tokens in questions]
    return {one.prompt: text_of((await asked(session, url, one))[1], one.streamed) for one in planned}


class CheckedEnvoy:
    """Envoy on a free port before replicas that it finds ready, or not, by itself."""

    def __init__(self, state: Path) -> None:
        self._files = XdsFiles(state / "xds")
        self._envoy = Envoy(state, self._files.directory, 0)
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    async def lead_to(self, replicas: Sequence[Replica]) -> None:
        await self._files.publish(_rendered([replica.port for replica in replicas]), None)

    @asynccontextmanager
    async def running(self, replicas: Sequence[Replica]) -> AsyncIterator[None]:
        self._files.start(self._port)
        await self.lead_to(replicas)
        await self._envoy.start()
        reading = asyncio.create_task(self._read_on())
        try:
            yield
        finally:
            await self._envoy.stop(1.0)
            await reading

    async def _read_on(self) -> None:
        """Its log comes through a pipe: unread, it would stop Envoy."""
        async for _ in self._envoy.lines():
            pass


def _rendered(ports: Sequence[int]) -> Rendered:
    """One cluster, checked by Envoy, and one route to it without a second try or a limit of its own."""
    cluster: Json = {
        "name": CLUSTER,
        "type": "EDS",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        # Otherwise Envoy sends to servers that are not ready, too, as soon as they are the most.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [_health_check()],
    }
    addresses = [{"address": "127.0.0.1", "port_value": port} for port in ports]
    members = [{"endpoint": {"address": {"socket_address": address}}} for address in addresses]
    route = {"match": {"prefix": "/v1/"}, "route": {"cluster": CLUSTER, "timeout": "0s"}}
    hosts = [{"name": CLUSTER, "domains": ["*"], "routes": [route]}]
    endpoints = {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": members}]}
    return Rendered({CLUSTER: cluster}, {CLUSTER: endpoints}, {"name": ROUTE_CONFIGURATION, "virtual_hosts": hosts}, [])


def _health_check() -> Json:
    """An answer that is not 200 counts at once; only silence has to repeat itself."""
    look = f"{CHECK_SECONDS}s"
    return {
        "timeout": "5s",
        "interval": look,
        "no_traffic_interval": look,
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/readyz"},
    }


async def replaced_behind_envoy(folder: Path, delay_seconds: float, replacements: int) -> Users:
    """Users who asked while servers were replaced: each gets SIGTERM as its successor starts, as in a rolling update.

    Raises DrainError if a server does not start, or ends with another exit code than 0.
    """
    async with fleet(folder, drain_delay_seconds=delay_seconds, **BUSY) as running:
        replicas = await running.start(REPLICAS)
        questions = some_questions()
        answers = await answers_of(running.session, replicas[0].url, questions)
        envoy = CheckedEnvoy(folder / "envoy")
        async with envoy.running(replicas):
            await _leads(running.session, envoy.url)
            users = Users(running.session, _always(envoy.url), answers)
            async with under_load(users, questions):
                for _ in range(replacements):
                    replicas = await _replace_oldest(running, envoy, replicas)
    return users


async def _replace_oldest(running: Fleet, envoy: CheckedEnvoy, replicas: Sequence[Replica]) -> list[Replica]:
    oldest, *others = replicas
    oldest.terminate()
    new, code = await asyncio.gather(running.start(), oldest.exit_code())
    if code != 0:
        raise DrainError(f"a server that was told to stop ended with {code}: {oldest.said}")
    await envoy.lead_to([*others, *new])
    return [*others, *new]


@asynccontextmanager
async def under_load(users: Users, questions: Sequence[Question]) -> AsyncIterator[None]:
    """Users ask as long as the block lasts; all of them are answered after it."""
    stop = asyncio.Event()
    asking = asyncio.create_task(users.ask_until(stop, questions))
    try:
        yield
    finally:
        stop.set()
        await asking


def _always(url: str) -> Callable[[], Awaitable[str]]:
    async def choose() -> str:
        return url

    return choose


async def _leads(session: aiohttp.ClientSession, url: str) -> None:
    """Until Envoy has found a server ready."""

    async def leads() -> bool:
        async with session.get(f"{url}/v1/models") as response:
            return response.status != 503

    if not await _within(START_SECONDS, leads):
        raise DrainError("Envoy finds no server ready")


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether the condition came to hold in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def measure() -> DrainFigures:
    """Replace the servers behind Envoy, one after the other, and count. Raises DrainError if that cannot be done."""
    with tempfile.TemporaryDirectory() as folder:
        users = asyncio.run(replaced_behind_envoy(Path(folder), DELAY_SECONDS, REPLACEMENTS))
    return DrainFigures(users.requests, len(users.lost))


if __name__ == "__main__":
    print(measure())
