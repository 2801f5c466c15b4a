"""The ledger's objects: `<url>/<model>/<release>/<number>.json`, each created exclusively and never changed or removed.

Several processes append to one release: who finds the next number taken reads what was written there and takes the next
one. Object stores put whole objects; on a disk, an entry is written under another name first and then hard-linked, so
that nobody sees half of it, and a writer that is stopped leaves a draft that nobody reads.

Where neither holds (other file systems, a disk that lost power), the newest object may be unreadable. It is no entry:
the next writer waits a moment, lest it is still being written, then goes on behind it and links to the last whole one,
which supersedes it. An unreadable object that a later entry *does* link to is damage: reading the release is refused.

Attachments, `<url>/<model>/<release>/<name>`, are made from entries and may be replaced: no chain holds them.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from sluice.errors import BadInput, Conflict, Refused, Unreachable
from sluice.ledger.chain import GENESIS, from_bytes, seal, to_bytes, verify, verify_hash
from sluice.ports import Entry

PATIENCE_SECONDS = 1.0
"""How long an unreadable newest entry is given to become whole."""
PAUSE_SECONDS = 0.05
ATTEMPTS = 100
_NUMBER = re.compile(r"(\d{6})\.json")
_ENTRY_OR_DRAFT = re.compile(r"\d{6}\.json.*")
_NAME = re.compile(r"\w[\w.:+@=-]*")


@dataclass(frozen=True)
class _Tail:
    """Where the next entry goes: the last number taken, and the hash of the last whole entry."""

    number: int
    hash: str


class FsspecLedger:
    """A ledger on whatever fsspec reaches: a directory, file://, s3://, memory:// …

    Blocking I/O runs in threads. Only the tail of each release is kept in memory, so that appending reads nothing as
    long as nobody else writes.
    """

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._fs, self._root = url_to_fs(url)
        self._patience_seconds = patience_seconds
        self._tails: dict[str, _Tail] = {}
        self._locks: dict[str, threading.Lock] = {}

    async def append(self, model: str, release: str, kind: str, data: Mapping[str, Any], at: datetime) -> Entry:
        """Write the next entry. Raises BadInput if `data` is no JSON, Unreachable if the store does not answer."""
        return await asyncio.to_thread(self._append, self._folder(model, release), kind, data, at)

    async def entries(self, model: str, release: str) -> Sequence[Entry]:
        """All entries in order, verified. Raises Refused if their chain is broken."""
        return await asyncio.to_thread(self._entries, self._folder(model, release))

    async def models(self) -> Sequence[str]:
        """All models that have releases."""
        return await asyncio.to_thread(self._names, self._root)

    async def releases(self, model: str) -> Sequence[str]:
        """Release ids of a model, oldest first: they sort by time."""
        return await asyncio.to_thread(self._names, self._folder(model))

    async def attach(self, model: str, release: str, name: str, content: bytes) -> str:
        """Keep a file beside a release's entries, in place of one of the same name; returns its URL.

        Raises BadInput for a name that is no file's or looks like an entry's, Unreachable.
        """
        return await asyncio.to_thread(self._attach, self._folder(model, release), _attachment(name), content)

    async def attachment(self, model: str, release: str, name: str) -> bytes | None:
        """What was attached under a name, None if nothing was. Raises BadInput, Unreachable."""
        return await asyncio.to_thread(self._attached, f"{self._folder(model, release)}/{_attachment(name)}")

    async def attachments(self, model: str, release: str) -> Sequence[str]:
        """Names of what is attached to a release, sorted. Raises Unreachable."""
        names = await asyncio.to_thread(self._names, self._folder(model, release))
        return [name for name in names if _NAME.fullmatch(name) and not _ENTRY_OR_DRAFT.fullmatch(name)]

    def _folder(self, *names: str) -> str:
        for name in names:
            if not _NAME.fullmatch(name):
                raise BadInput(f"{name!r} cannot name a folder of the ledger; use letters, digits and . _ : + @ = -")
        return "/".join([self._root, *names])

    def _append(self, folder: str, kind: str, data: Mapping[str, Any], at: datetime) -> Entry:
        with self._locks.setdefault(folder, threading.Lock()):
            for _ in range(ATTEMPTS):
                tail = self._tails.get(folder) or self._find_tail(folder)
                entry = seal(tail.number + 1, kind, at, data, tail.hash)
                if self._create(folder, entry):
                    self._tails[folder] = _Tail(entry.number, entry.hash)
                    return entry
                self._tails.pop(folder, None)
        raise Conflict(f"{folder}: other writers took the next number {ATTEMPTS} times in a row; try again")

    def _create(self, folder: str, entry: Entry) -> bool:
        """False if the number is taken."""
        path = _path(folder, entry.number)
        try:
            if entry.previous_hash == GENESIS:
                self._fs.makedirs(folder, exist_ok=True)
            self._write_new(path, to_bytes(entry))
        except FileExistsError:
            return False
        except OSError as error:
            raise _unreachable("write", path, error) from error
        return True

    def _write_new(self, path: str, content: bytes) -> None:
        """Raises FileExistsError if the path is taken."""
        if not isinstance(self._fs, LocalFileSystem):
            with self._fs.open(path, "xb") as file:
                file.write(content)
            return
        draft = Path(f"{path}.{uuid4().hex}")
        try:
            draft.write_bytes(content)
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _attach(self, folder: str, name: str, content: bytes) -> str:
        path = f"{folder}/{name}"
        try:
            self._fs.makedirs(folder, exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                _replace(Path(path), content)
            else:
                self._fs.pipe_file(path, content)
        except OSError as error:
            raise _unreachable("write", path, error) from error
        return str(self._fs.unstrip_protocol(path))

    def _attached(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreachable("read", path, error) from error

    def _find_tail(self, folder: str) -> _Tail:
        numbers = self._numbers(folder)
        for number in reversed(numbers):
            if entry := self._await_whole(folder, number) if number == numbers[-1] else self._read(folder, number):
                verify_hash(entry)
                return _Tail(numbers[-1], entry.hash)
        return _Tail(numbers[-1] if numbers else 0, GENESIS)

    def _await_whole(self, folder: str, number: int) -> Entry | None:
        """The newest entry; if it is not whole, its writer gets a moment to finish."""
        deadline = time.monotonic() + self._patience_seconds
        while (entry := self._read(folder, number)) is None and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return entry

    def _entries(self, folder: str) -> Sequence[Entry]:
        entries = tuple(entry for entry in map(from_bytes, self._contents(folder)) if entry is not None)
        try:
            verify(entries)
        except Refused as error:
            raise Refused(f"{folder}: {error}") from error
        return entries

    def _contents(self, folder: str) -> list[bytes]:
        paths = [_path(folder, number) for number in self._numbers(folder)]
        try:
            found = self._fs.cat(paths) if paths else {}  # all at once, where the store can
        except OSError as error:
            raise _unreachable("read", folder, error) from error
        return [found[path] for path in paths]

    def _numbers(self, folder: str) -> list[int]:
        return [int(match[1]) for name in self._names(folder) if (match := _NUMBER.fullmatch(name))]

    def _names(self, folder: str) -> list[str]:
        self._fs.invalidate_cache(folder)
        try:
            return sorted(path.rstrip("/").rpartition("/")[2] for path in self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreachable("list", folder, error) from error

    def _read(self, folder: str, number: int) -> Entry | None:
        path = _path(folder, number)
        try:
            return from_bytes(self._fs.cat_file(path))
        except OSError as error:
            raise _unreachable("read", path, error) from error


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def _attachment(name: str) -> str:
    if not _NAME.fullmatch(name) or _ENTRY_OR_DRAFT.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot name an attachment; use letters, digits and . _ : + @ = -, and no entry's name"
        )
    return name


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, for whoever reads meanwhile. The draft's name begins with a dot, as no attachment's does."""
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _unreachable(verb: str, place: str, error: OSError) -> Unreachable:
    return Unreachable(f"the ledger cannot {verb} {place} ({error}); look at its place and its rights")
