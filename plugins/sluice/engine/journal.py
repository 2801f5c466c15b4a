"""What a use case leaves in the ledger: when it started and ended, and everything it noted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sluice.errors import SluiceError, kind_of
from sluice.ports import Ports


class Release(Protocol):
    """Whose ledger it is."""

    @property
    def model(self) -> str: ...

    @property
    def release(self) -> str: ...


@dataclass(frozen=True)
class Journal:
    """One use case's pen."""

    ports: Ports
    of: Release

    async def note(self, kind: str, data: Mapping[str, Any], at: datetime | None = None) -> None:
        await self.ports.ledger.append(self.of.model, self.of.release, kind, data, at or self.ports.clock.now())


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
