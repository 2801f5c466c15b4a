"""All sides with the same requests in alternating rounds, at each concurrency; ratios within a round, then medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.server import sides
from benchmarks.server.client import Sample, closed_loop, open_connections, session
from benchmarks.server.sides import InProcess, Running
from benchmarks.server.workload import Ask

CONCURRENCIES = (1, 4, 16, 32)
OURS, SINGLE, TRANSFORMERS_SERVE, IN_PROCESS = "ours", "single", "transformers serve", "in-process"
WARM_UP_REQUESTS = 2

Key = tuple[str, int]
"""A side and a concurrency."""
Asks = Callable[[str, int], list[Ask]]
"""Requests by a seed and their number; the same for the same seed."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Model:
    """What is served, and what it is asked."""

    name: str
    directory: Path
    asks: Asks
    requests: Mapping[int, int]
    """How many a round has, by concurrency."""


@dataclass(frozen=True)
class Rounds:
    """The samples of every side and concurrency, in the order of the rounds."""

    samples: Mapping[Key, Sequence[Sample]]
    inprocess_tokens_per_second: Sequence[float]

    def tokens_ratio(self, other: str, concurrency: int) -> float:
        """Our tokens/s as a multiple of another side's: median over the rounds."""
        if other == IN_PROCESS:
            pairs = zip(self.samples[OURS, 1], self.inprocess_tokens_per_second, strict=True)
            return median(mine.tokens_per_second / theirs for mine, theirs in pairs)
        return self._ratio(other, concurrency, lambda sample: sample.tokens_per_second)

    def ttft_p95_ratio(self, other: str, concurrency: int) -> float:
        """Our p95 of the time to first token as a multiple of another side's: median over the rounds."""
        return self._ratio(other, concurrency, lambda sample: sample.ttft_p95_seconds)

    def _ratio(self, other: str, concurrency: int, figure: Callable[[Sample], float]) -> float:
        pairs = zip(self.samples[OURS, concurrency], self.samples[other, concurrency], strict=True)
        return median(figure(mine) / figure(theirs) for mine, theirs in pairs)

    def median(self, side: str, concurrency: int) -> Sample:
        """Each figure's median over the rounds."""
        samples = self.samples[side, concurrency]
        return Sample(
            median(sample.tokens_per_second for sample in samples),
            median(sample.ttft_p50_seconds for sample in samples),
            median(sample.ttft_p95_seconds for sample in samples),
        )

    def to_record(self) -> dict[str, Any]:
        """Every sample, for machines."""
        found: dict[str, Any] = {
            f"{side}, {concurrency}": [vars(sample) for sample in samples]
            for (side, concurrency), samples in self.samples.items()
        }
        return found | {f"{IN_PROCESS}, 1": [{"tokens_per_second": v} for v in self.inprocess_tokens_per_second]}


async def compare(model: Model, rounds: int, seed: int, logs: Path, tell: Tell) -> Rounds:
    """Start all sides, and let each answer the requests of every round. Raises SideFailed, WrongAnswer."""
    samples: dict[Key, list[Sample]] = {}
    loop_speeds: list[float] = []
    with ExitStack() as stack:
        # One after the other: starting costs both cores.
        loop = stack.enter_context(sides.in_process(model.directory, logs))
        made = (sides.ours(model.directory), sides.single(model.directory), sides.transformers_serve(model.directory))
        servers = [stack.enter_context(sides.running(side, logs)) for side in made]
        await _warm_up(servers, loop, model.asks(f"{seed}-warm-up", WARM_UP_REQUESTS))
        for number in range(rounds):
            for concurrency in CONCURRENCIES:
                asks = model.asks(f"{seed}-{number}-{concurrency}", model.requests[concurrency])
                for server in rotated(servers, number):
                    sample = await _sample(server, asks, concurrency)
                    samples.setdefault((server.name, concurrency), []).append(sample)
                    tell(_line(model, number, server.name, concurrency, sample))
                if concurrency == 1:
                    loop_speeds.append(loop.tokens_per_second(asks))
                    tell(f"{model.name}, round {number + 1}: {IN_PROCESS} {loop_speeds[-1]:.0f} tokens/s")
    return Rounds(samples, loop_speeds)


def rotated(servers: Sequence[Running], number: int) -> list[Running]:
    """Whoever is first in one round is last in the next."""
    first = number % len(servers)
    return [*servers[first:], *servers[:first]]


async def _sample(server: Running, asks: Sequence[Ask], concurrency: int) -> Sample:
    async with session() as http:
        await open_connections(http, server.health, concurrency)
        return Sample.of(await closed_loop(http, server.url, asks, concurrency))


async def _warm_up(servers: Sequence[Running], loop: InProcess, asks: Sequence[Ask]) -> None:
    loop.tokens_per_second(asks)
    for server in servers:
        await _sample(server, asks, len(asks))


def _line(model: Model, number: int, side: str, concurrency: int, sample: Sample) -> str:
    return (
        f"{model.name}, round {number + 1}, concurrency {concurrency}: {side} {sample.tokens_per_second:.0f} tokens/s, "
        f"TTFT p95 {1000 * sample.ttft_p95_seconds:.0f} ms"
    )
