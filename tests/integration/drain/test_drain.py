"""Servers that get SIGTERM under load: what was asked is answered, what is refused is told so, the exit code is 0."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from benchmarks.demo.load import Planned, problem_of_stream
from benchmarks.server import drain
from benchmarks.server.drain import (
    BUSY,
    MIX,
    SERVER_PYTHON,
    Fleet,
    Replica,
    Users,
    answers_of,
    asked,
    fleet,
    replaced_behind_envoy,
    some_questions,
    text_of,
    under_load,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SERVER_PYTHON.exists(), reason="needs the servers' environment: `make install`"),
]

LETTERS = "abcdefghijklmnopqrstuvwxyzabcdef"
LONG = Planned(0.0, "short", True, f"copy({LETTERS})=", 48)
SHORT = Planned(0.0, "short", False, "12+34=", 8)
REPLACEMENTS = 3
REFUSED_SECONDS = 30


class Chooser:
    """A client that knows all servers and looks, before each request, which one is ready: no proxy, no second try."""

    def __init__(self, session: aiohttp.ClientSession, replicas: list[Replica]) -> None:
        self._session = session
        self.replicas = replicas
        self.looks = 0

    async def __call__(self) -> str:
        while True:
            self.looks += 1
            for offset in range(len(self.replicas)):
                replica = self.replicas[(self.looks + offset) % len(self.replicas)]
                if await self._is_ready(replica.url):
                    return replica.url
            await asyncio.sleep(0.01)

    async def _is_ready(self, url: str) -> bool:
        try:
            async with self._session.get(f"{url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:  # it has ended
            return False


async def replace_all(manager: Fleet, clients: Chooser) -> list[int]:
    """As a process manager does: a new one first, then SIGTERM for the old one. Returns the exit codes."""
    codes = []
    for _ in range(REPLACEMENTS):
        old, *_ = clients.replicas
        clients.replicas = [*clients.replicas, *await manager.start()]
        old.terminate()
        codes.append(await old.exit_code())
        clients.replicas = clients.replicas[1:]
    return codes


async def test_a_process_manager_replaces_servers_and_clients_that_choose_by_readyz_lose_nothing(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, drain_delay_seconds=1, **BUSY) as manager:
        clients = Chooser(manager.session, await manager.start())
        questions = some_questions()
        answers = await answers_of(manager.session, clients.replicas[0].url, questions)
        # Half as many as behind Envoy, because each of them looks for a ready server first.
        users = Users(manager.session, clients, answers, replace(MIX, rate=MIX.rate / 2))
        async with under_load(users, questions):
            codes = await replace_all(manager, clients)
    assert users.lost == []
    assert codes == [0] * REPLACEMENTS
    assert users.requests > 150


async def test_servers_replaced_behind_envoy_lose_nothing(tmp_path: Path) -> None:
    users = await replaced_behind_envoy(tmp_path, drain.DELAY_SECONDS, drain.REPLACEMENTS)
    assert users.lost == []
    assert users.requests > 300


async def test_without_a_delay_the_same_drill_loses_requests(tmp_path: Path) -> None:
    users = await replaced_behind_envoy(tmp_path, delay_seconds=0, replacements=1)
    assert [why for why in users.lost if '"code":"draining"' in why]


class Stream:
    """A stream whose first event has come."""

    def __init__(self, response: aiohttp.ClientResponse, first: bytes) -> None:
        self._response = response
        self._first = first

    @classmethod
    async def begun(cls, session: aiohttp.ClientSession, url: str) -> Stream:
        body = {"prompt": LONG.prompt, "max_tokens": LONG.max_tokens, "stream": True, "temperature": 0}
        response = await session.post(f"{url}/v1/completions", json=body)
        return cls(response, await response.content.readuntil(b"\n\n"))

    @property
    def running(self) -> bool:
        return not self._response.content.at_eof()

    async def whole(self) -> bytes:
        """The body, when it has ended."""
        return self._first + await self._response.read()


async def until_refused(session: aiohttp.ClientSession, url: str) -> tuple[Mapping[str, str], int, str]:
    """Headers, status and code of the first answer that is not 200."""
    deadline = time.monotonic() + REFUSED_SECONDS
    while True:
        async with session.post(f"{url}/v1/completions", json={"prompt": SHORT.prompt}) as response:
            answer = await response.json()
        if response.status != 200:
            return response.headers, response.status, answer["error"]["code"]
        assert time.monotonic() < deadline, f"still accepting {REFUSED_SECONDS} s after SIGTERM"


async def test_streams_that_began_before_sigterm_are_finished_while_new_requests_are_refused(tmp_path: Path) -> None:
    async with fleet(tmp_path, drain_delay_seconds=0.3, fault="slow:60", allow_faults=1) as running:
        (server,) = await running.start()
        streams = [await Stream.begun(running.session, server.url) for _ in range(4)]
        server.terminate()
        headers, *refusal = await until_refused(running.session, server.url)
        still_running = [stream.running for stream in streams]
        bodies = [await stream.whole() for stream in streams]
        code = await server.exit_code()
    assert refusal == [503, "draining"]
    assert headers["connection"] == "close"
    assert still_running == [True] * 4
    assert [problem_of_stream(body) for body in bodies] == [""] * 4
    assert {text_of(body, streamed=True) for body in bodies} == {LETTERS}
    assert code == 0


async def test_what_still_runs_at_the_deadline_fails_and_does_not_look_complete(tmp_path: Path) -> None:
    settings = {"drain_delay_seconds": 0.3, "drain_deadline_seconds": 0.5, "fault": "slow:300", "allow_faults": 1}
    async with fleet(tmp_path, **settings) as running:
        (server,) = await running.start()
        stream = await Stream.begun(running.session, server.url)
        whole = asyncio.create_task(asked(running.session, server.url, replace(LONG, streamed=False)))
        server.terminate()
        events = (await stream.whole()).decode().strip().split("\n\n")
        status, body = await whole
        code = await server.exit_code()
    error = json.loads(events[-1].removeprefix("data: "))["error"]
    assert (error["code"], "shutting down" in error["message"]) == ("generation_failed", True)
    assert not any('finish_reason":"' in event.replace(" ", "") for event in events)
    assert (status, json.loads(body)["error"]["code"]) == (500, "generation_failed")
    assert code == 0
