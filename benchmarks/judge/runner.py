"""Runs cells: one simulated release after the other, on any number of processes, always with the same result.

Each repetition draws from a generator of its own, seeded by the benchmark's seed, the cell's name and the repetition's
number; so a result depends neither on the number of processes nor on which other cells there are.
"""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK = 50

Outcome = Mapping[str, float]
"""What one repetition came to, by name; NaN: it did not happen."""
Columns = Mapping[str, NDArray[np.float64]]
"""The same for all repetitions of a cell, in their order."""


@dataclass(frozen=True)
class Cell:
    """One simulation. `share`: of the benchmark's repetitions, for cells that need more or fewer."""

    name: str
    run: Callable[[np.random.Generator], Outcome]
    share: float = 1.0

    def repetitions(self, asked: int) -> int:
        return max(1, round(self.share * asked))


@dataclass(frozen=True)
class Chunk:
    cell: Cell
    first: int
    last: int
    seed: int

    def run(self) -> list[Outcome]:
        key = zlib.crc32(self.cell.name.encode())
        seeds = (np.random.SeedSequence(self.seed, spawn_key=(key, number)) for number in range(self.first, self.last))
        return [self.cell.run(np.random.default_rng(seed)) for seed in seeds]


def run(
    cells: Sequence[Cell], seed: int, repetitions: int, processes: int, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Columns]:
    """Return each cell's columns by the cell's name. `tell` hears of each cell that is done."""
    chunks = [chunk for cell in cells for chunk in _chunks(cell, seed, cell.repetitions(repetitions))]
    rows: dict[str, list[Outcome]] = {cell.name: [] for cell in cells}
    for chunk, outcomes in zip(chunks, _outcomes(chunks, processes), strict=True):
        rows[chunk.cell.name] += outcomes
        if chunk.last == chunk.cell.repetitions(repetitions):
            tell(chunk.cell.name)
    return {name: _columns(outcomes) for name, outcomes in rows.items()}


def _chunks(cell: Cell, seed: int, repetitions: int) -> Iterator[Chunk]:
    for first in range(0, repetitions, CHUNK):
        yield Chunk(cell, first, min(first + CHUNK, repetitions), seed)


def _outcomes(chunks: Sequence[Chunk], processes: int) -> Iterator[list[Outcome]]:
    if processes == 1:
        yield from map(Chunk.run, chunks)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(Chunk.run, chunks)


def _columns(outcomes: Iterable[Outcome]) -> Columns:
    listed = list(outcomes)
    return {name: np.array([outcome[name] for outcome in listed], dtype=np.float64) for name in listed[0]}
