"""Where a release's time went, from its ledger: use cases, the gaps between them, and what orchestration cost. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sluice.errors import BadInput
from sluice.ports import Entry


@dataclass(frozen=True)
class Span:
    """One run of a use case."""

    use_case: str
    step: int | None
    started: datetime
    ended: datetime
    gap_before: timedelta
    """Time just before it in which no use case ran."""

    @property
    def duration(self) -> timedelta:
        return self.ended - self.started


@dataclass(frozen=True)
class Durations:
    """A release from its trigger to its last entry: `total` = time in which use cases ran + `overhead`."""

    total: timedelta
    overhead: timedelta
    """Time in which none of the release's use cases ran."""
    spans: tuple[Span, ...]
    """By start; use cases may overlap."""


def overhead(entries: Sequence[Entry]) -> Durations:
    """From the first entry's `triggered_at` on; `started` and `ended` entries name `use_case` and `step` in their data.

    A use case without `ended` was killed; it ran until the last entry before the next start, its last sign of life.
    Raises BadInput if there is no entry, or the first does not say when the release was triggered.
    """
    if not entries or "triggered_at" not in entries[0].data:
        raise BadInput(
            "a release's durations need its first entry with `triggered_at`; name a release that was planned"
        )
    triggered = datetime.fromisoformat(entries[0].data["triggered_at"])
    spans, idle, busy_until = [], timedelta(), triggered
    for use_case, step, started, ended in sorted(_runs(entries), key=lambda run: run[2]):
        gap = max(started - busy_until, timedelta())
        spans.append(Span(use_case, step, started, ended, gap))
        idle += gap
        busy_until = max(busy_until, ended)
    last = entries[-1].at
    return Durations(last - triggered, idle + max(last - busy_until, timedelta()), tuple(spans))


_Run = tuple[str, int | None, datetime, datetime]


def _runs(entries: Sequence[Entry]) -> list[_Run]:
    return [
        (entry.data["use_case"], entry.data["step"], entry.at, _end(entries, index))
        for index, entry in enumerate(entries)
        if entry.kind == "started"
    ]


def _end(entries: Sequence[Entry], start: int) -> datetime:
    """When the run that started with entry `start` ended, or gave its last sign of life."""
    mine = _key(entries[start])
    last_sign: datetime | None = None
    for before, entry in zip(entries[start:], entries[start + 1 :], strict=False):
        if entry.kind == "started":
            last_sign = last_sign or before.at
            if _key(entry) == mine:
                return last_sign
        if entry.kind == "ended" and _key(entry) == mine:
            return entry.at
    return last_sign or entries[-1].at


def _key(entry: Entry) -> tuple[str, int | None]:
    return entry.data["use_case"], entry.data["step"]
