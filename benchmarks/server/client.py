"""The users: streamed completions over connections that are open already, each answer checked.

Times are seconds of one monotonic clock. An answer that is not as asked fails the benchmark: speed is compared of sides
that do the same work.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from benchmarks.server.workload import Ask

REQUEST_SECONDS = 600.0
FINISH_REASONS = frozenset({"stop", "length"})


class WrongAnswer(Exception):
    """A side did not answer as asked; the message says what was asked and what came."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status
        """HTTP status of a refusal; 0 of anything else."""


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    sent: float
    first_token: float
    ended: float
    tokens: int

    @property
    def ttft_seconds(self) -> float:
        return self.first_token - self.sent


@dataclass(frozen=True)
class Sample:
    """What one side did with the requests of a round at one concurrency."""

    tokens_per_second: float
    ttft_p50_seconds: float
    ttft_p95_seconds: float

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Sample:
        """Tokens between the first request and the last answer; quantiles interpolated linearly."""
        seconds = max(answer.ended for answer in answers) - min(answer.sent for answer in answers)
        p50, p95 = np.quantile([answer.ttft_seconds for answer in answers], (0.5, 0.95))
        return cls(sum(answer.tokens for answer in answers) / seconds, float(p50), float(p95))


def session() -> aiohttp.ClientSession:
    """Keeps every connection that it has opened."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=REQUEST_SECONDS)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


async def open_connections(http: aiohttp.ClientSession, health: str, count: int) -> None:
    """Open so many at once; they stay for the requests."""

    async def one() -> None:
        async with http.get(health) as response:
            await response.read()

    await asyncio.gather(*(one() for _ in range(count)))


async def closed_loop(http: aiohttp.ClientSession, url: str, asks: Sequence[Ask], concurrency: int) -> list[Answer]:
    """So many users, each of whom sends the next request as soon as the last answer has ended. Raises WrongAnswer."""
    waiting: Iterator[Ask] = iter(asks)
    answers: list[Answer] = []

    async def user() -> None:
        for ask in waiting:
            answers.append(await complete(http, url, ask))

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return answers


async def complete(http: aiohttp.ClientSession, url: str, ask: Ask) -> Answer:
    """Send one request and read its stream to the end. Raises WrongAnswer."""
    sent = time.perf_counter()
    body = {"prompt": ask.prompt, "max_tokens": ask.max_tokens, "temperature": 0, "stream": True}
    try:
        async with http.post(f"{url}/v1/completions", json=body) as response:
            if response.status != 200:
                raise WrongAnswer(f"status {response.status}: {(await response.text())[:300]}", response.status)
            return await read(response.content.iter_any(), ask, sent)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WrongAnswer(f"broken off: {error!r}") from error


async def read(
    stream: AsyncIterator[bytes], ask: Ask, sent: float, clock: Callable[[], float] = time.perf_counter
) -> Answer:
    """The answer that a stream of server-sent events is. Raises WrongAnswer."""
    received, first_token = b"", 0.0
    async for part in stream:
        received += part
        if not first_token and b"\n\n" in received and _has_token(received):
            first_token = clock()
    ended = clock()
    return Answer(sent, first_token or ended, ended, _tokens(received, ask))


def _has_token(received: bytes) -> bool:
    complete_events = received[: received.rindex(b"\n\n")]
    return any(choice["text"] or choice.get("finish_reason") for event in _events(complete_events) for choice in event)


def _events(received: bytes) -> Iterator[list[dict[str, Any]]]:
    for event in _data(received):
        yield event.get("choices") or []


def _data(received: bytes) -> Iterator[dict[str, Any]]:
    for line in received.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def _tokens(received: bytes, ask: Ask) -> int:
    """The tokens of an answer that has ended, by its usage."""
    *_, last = ({}, *_data(received))
    choices, usage = last.get("choices") or [{}], last.get("usage") or {}
    tokens, reason = usage.get("completion_tokens", 0), choices[0].get("finish_reason")
    if reason not in FINISH_REASONS or not 1 <= tokens <= ask.max_tokens or (ask.exact and tokens != ask.max_tokens):
        raise WrongAnswer(f"{ask.max_tokens} tokens asked, {tokens} came, finish_reason {reason}: {last}")
    return int(tokens)
