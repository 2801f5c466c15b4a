"""What a use case leaves in the ledger: when it started and ended, and everything it noted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sluice.errors import SluiceError, Unreachable, kind_of
from sluice.ports import Ports

PATIENCE_SECONDS = 60.0


class Release(Protocol):
    """Whose ledger it is."""

    @property
    def model(self) -> str: ...

    @property
    def release(self) -> str: ...


@dataclass(frozen=True)
class Note:
    """An entry that is still to be made."""

    kind: str
    data: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True)
class Journal:
    """One use case's pen."""

    ports: Ports
    of: Release

    async def note(self, kind: str, data: Mapping[str, Any], at: datetime | None = None) -> None:
        await self.ports.ledger.append(self.of.model, self.of.release, kind, data, at or self.ports.clock.now())

    async def note_patiently(self, note: Note) -> None:
        """Try for a while: what was decided is worth waiting for. Raises Unreachable in the end."""
        give_up = self.ports.clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self.note(note.kind, note.data, note.at)
            except Unreachable:
                if self.ports.clock.monotonic() > give_up:
                    raise
                await self.ports.clock.sleep(1.0)


@asynccontextmanager
async def use_case(
    ports: Ports, of: Release, name: str, step: int | None = None, more: Mapping[str, str] | None = None
) -> AsyncIterator[Journal]:
    """Entries `started` and `ended` around a use case; a killed one leaves no `ended`, a failed one says why."""
    journal = Journal(ports, of)
    where: dict[str, Any] = {"use_case": name, "step": step, **(more or {})}
    await journal.note("started", where)
    try:
        yield journal
    except SluiceError as error:
        await journal.note("ended", where | {"error": kind_of(error), "sentence": str(error)})
        raise
    await journal.note("ended", where)
