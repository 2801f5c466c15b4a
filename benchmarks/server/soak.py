"""More requests than the server can serve, for long: memory, refusals, deadlines.

First as many requests as there are slots and places in the queue, then more of them at random (Poisson), at 1.5 times
the rate that the server sustained with all its slots busy, whatever became of those before them. What it cannot take it
has to refuse at once; what it takes it has to finish in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import numpy as np
import psutil

from benchmarks.server import sides
from benchmarks.server.client import WrongAnswer, closed_loop, complete, open_connections, session
from benchmarks.server.comparison import Model, Tell
from benchmarks.server.sides import Running
from benchmarks.server.workload import Ask

OVERLOAD = 1.5
SLOTS = 32
QUEUE = 32
"""Requests that wait: those before the last of them must be through well before its deadline."""
DEADLINE_SECONDS = 60.0
WARM_UP_SHARE, WINDOW_SHARE = 0.2, 0.1
"""Of the time: what memory is given to grow, and then the first window, which is compared with the last."""
SAMPLE_SECONDS = 0.5
TOO_MANY = 429


@dataclass(frozen=True)
class SoakFigures:
    """What became of an overload."""

    rate: float
    """Requests per second that came."""
    sent: int
    rejected: int
    kept: int
    """Accepted, complete and as asked, within the deadline."""
    memory_growth: float
    """Resident memory of the last window over the first after the warm-up, less 1."""
    memory_mb: float
    reject_p95_ms: float

    @property
    def accepted(self) -> int:
        return self.sent - self.rejected

    @property
    def kept_share(self) -> float:
        return self.kept / self.accepted if self.accepted else float("nan")


@dataclass(frozen=True)
class Fate:
    """What became of one request, after so many seconds; `status` 0: it broke off, or was not as asked."""

    status: int
    seconds: float


async def soak(model: Model, seconds: float, seed: int, logs: Path, tell: Tell) -> SoakFigures:
    """Start our server, find out its rate, overload it. Raises SideFailed, WrongAnswer."""
    side = sides.ours(
        model.directory,
        max_requests_per_batch=SLOTS,
        max_queue=QUEUE,
        request_deadline_seconds=DEADLINE_SECONDS,
    )
    with sides.running(side, logs) as server:
        async with session() as http:
            await open_connections(http, server.health, SLOTS + QUEUE)
            rate = OVERLOAD * await _sustainable_rate(http, server, model.asks(f"{seed}-rate", model.requests[SLOTS]))
            tell(f"{model.name}: {rate:.1f} requests/s for {seconds:.0f} s")
            arrivals = [*([0.0] * (SLOTS + QUEUE)), *poisson(rate, seconds, seed)]
            asks = model.asks(f"{seed}-soak", len(arrivals))
            memory: list[int] = []
            watching = asyncio.create_task(_watch(server.pid, memory))
            fates = await _open_loop(http, server, asks, arrivals)
            watching.cancel()
    return figures(rate, fates, memory)


async def _sustainable_rate(http: aiohttp.ClientSession, server: Running, asks: Sequence[Ask]) -> float:
    """Requests per second with all slots busy."""
    answers = await closed_loop(http, server.url, asks, SLOTS)
    return len(answers) / (max(answer.ended for answer in answers) - min(answer.sent for answer in answers))


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments of arrival, in seconds after the start."""
    rng, at = random.Random(seed), 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        yield at


async def _open_loop(
    http: aiohttp.ClientSession, server: Running, asks: Sequence[Ask], arrivals: Sequence[float]
) -> list[Fate]:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        sent = []
        for ask, after in zip(asks, arrivals, strict=True):
            await asyncio.sleep(max(0.0, began + after - time.perf_counter()))
            sent.append(requests.create_task(_fate(http, server.url, ask)))
    return [request.result() for request in sent]


async def _fate(http: aiohttp.ClientSession, url: str, ask: Ask) -> Fate:
    sent, status = time.perf_counter(), 200
    try:
        await complete(http, url, ask)
    except WrongAnswer as error:
        status = error.status
    return Fate(status, time.perf_counter() - sent)


async def _watch(pid: int, memory: list[int]) -> None:
    process = psutil.Process(pid)
    while True:
        memory.append(process.memory_info().rss)
        await asyncio.sleep(SAMPLE_SECONDS)


def figures(rate: float, fates: Sequence[Fate], memory: Sequence[int]) -> SoakFigures:
    """Reckon a soak; memory in bytes, sampled evenly over its time."""
    rejected = [1000 * fate.seconds for fate in fates if fate.status == TOO_MANY]
    first, last = _windows(memory)
    return SoakFigures(
        rate=rate,
        sent=len(fates),
        rejected=len(rejected),
        kept=sum(fate.status == 200 and fate.seconds <= DEADLINE_SECONDS for fate in fates),
        memory_growth=last / first - 1,
        memory_mb=last / 1e6,
        reject_p95_ms=float(np.quantile(rejected, 0.95)) if rejected else float("nan"),
    )


def _windows(memory: Sequence[int]) -> tuple[float, float]:
    """Medians of the first window after the warm-up, and of the last."""
    count = len(memory)
    start, size = int(WARM_UP_SHARE * count), max(1, int(WINDOW_SHARE * count))
    return median(memory[start : start + size]), median(memory[-size:])
