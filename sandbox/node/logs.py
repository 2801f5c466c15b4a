"""Containers' logs, in files of the format that container runtimes write: `<time> stdout F <line>`."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 32 * 1024 * 1024
FOLLOW_SECONDS = 0.1
CHUNK_BYTES = 64 * 1024


class LogWriter:
    """Appends lines with their times; at `max_bytes` the file is put aside as `<name>.1` and begun anew."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)

    async def copy(self, stream: asyncio.StreamReader) -> None:
        """Write the stream's lines until it ends; a last line without an end is one too."""
        rest = b""
        while chunk := await stream.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            self.write(lines)
        if rest:
            self.write([rest])
        self._file.close()

    def write(self, lines: list[bytes]) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
        self._file.write(b"".join(stamp + b" stdout F " + line + b"\n" for line in lines))
        if self._file.tell() > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._path.open("ab", buffering=0)


@dataclass(frozen=True)
class LogQuery:
    """What `kubectl logs` asks for; `since` is the earliest time, in the log's own form."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: str = ""


async def read_log(path: Path, query: LogQuery, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's lines, with their ends; following goes on until `ended()` and everything was read.

    The writer is in this process and writes whole lines, so that a read never sees half of one.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    try:
        yield b"".join(deque(_chosen(file, query), maxlen=query.tail_lines))
        while query.follow:
            last = ended()
            if fresh := b"".join(_chosen(file, query)):
                yield fresh
            elif last:
                return
            elif _rotated(file, path):
                file.close()
                file = path.open("rb")
            else:
                await asyncio.sleep(FOLLOW_SECONDS)
    finally:
        file.close()


def _rotated(file: BinaryIO, path: Path) -> bool:
    return path.exists() and not os.path.samestat(os.fstat(file.fileno()), path.stat())


def _chosen(lines: Iterable[bytes], query: LogQuery) -> Iterator[bytes]:
    for line in lines:
        stamp, _, _, text = line.split(b" ", 3)
        if stamp.decode() >= query.since:
            yield stamp + b" " + text if query.timestamps else text
