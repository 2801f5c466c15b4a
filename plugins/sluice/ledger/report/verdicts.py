"""All verdicts and decisions as sentences, in order; of equal ones in a row, only the first and how long it held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.ledger.report.looks import LookAt
from sluice.ledger.report.records import step_name
from sluice.ports import Entry


@dataclass(frozen=True)
class Told:
    """One sentence. `decides`: it moved the release; the others are what a gate said meanwhile."""

    at: datetime
    where: str
    gate: str
    outcome: str
    sentence: str
    decides: bool
    changes: bool = True
    """The gate's outcome is another than before, at this step."""


def told_of(entries: Sequence[Entry], looks: Sequence[LookAt], steps: int) -> tuple[Told, ...]:
    """Everything that was said of a release with so many steps, by time."""
    told = sorted([*_recorded(entries, steps), *_meanwhile(looks, steps)], key=lambda one: one.at)
    kept: list[Told] = []
    last: dict[tuple[str, str], str] = {}
    for one in told:
        place = (one.where, one.gate)
        if one.decides or last.get(place) != one.sentence:
            kept.append(one)
        last[place] = one.sentence
    return tuple(_marked(kept))


def _marked(told: Sequence[Told]) -> Iterator[Told]:
    outcome: dict[tuple[str, str], str] = {}
    for one in told:
        place = (one.where, one.gate)
        changes = one.decides or outcome.get(place) != one.outcome
        outcome[place] = one.outcome
        yield Told(one.at, one.where, one.gate, one.outcome, one.sentence, one.decides, changes)


def _recorded(entries: Sequence[Entry], steps: int) -> Iterator[Told]:
    for entry in entries:
        if entry.kind == "contract" and entry.data.get("verdict"):
            yield _verdict(entry.at, "examination", entry.data["verdict"])
        elif entry.kind == "examined":
            verdicts = entry.data.get("verdicts") or [entry.data.get("verdict", {})]
            for verdict in verdicts:
                yield _verdict(entry.at, "examination", verdict)
        elif entry.kind == "look":
            data, where = entry.data, step_name(entry.data["step"], steps)
            for verdict in [data.get("share"), *data.get("verdicts", ())]:
                if verdict:
                    yield _verdict(entry.at, where, verdict)
            yield Told(entry.at, where, "decision", data["action"], data["sentence"], decides=True)
        elif entry.kind in ("ended", "concluded", "decided"):
            yield from _end(entry)


def _end(entry: Entry) -> Iterator[Told]:
    data = entry.data
    if entry.kind == "ended" and "error" in data and data["use_case"] not in ("watch", "soak", "conclude"):
        yield Told(entry.at, data["use_case"], "error", data["error"], data.get("sentence", ""), decides=True)
    elif entry.kind == "concluded":
        yield Told(entry.at, "end", "conclusion", data["outcome"], data["sentence"], decides=True)
    elif entry.kind == "decided" and data.get("phase") == "rolled_back":
        yield Told(entry.at, "settle", "decision", "roll_back", data.get("reason", ""), decides=True)


def _meanwhile(looks: Sequence[LookAt], steps: int) -> Iterator[Told]:
    for look in looks:
        for verdict in look.verdicts:
            yield _verdict(look.at, step_name(look.step, steps), verdict)


def _verdict(at: datetime, where: str, verdict: Mapping[str, Any]) -> Told:
    return Told(at, where, verdict.get("gate", ""), verdict.get("outcome", ""), verdict.get("sentence", ""), False)
