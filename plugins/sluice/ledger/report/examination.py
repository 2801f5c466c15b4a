"""Where the examination's e-values ended, and how bursty stable was found before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.ledger.report.evalues import Panel, panels_of
from sluice.ledger.report.looks import LookAt
from sluice.ports import Entry

BEFORE_ANY_STEP = -1


@dataclass(frozen=True)
class Burst:
    """How bad events clump, measured between stable's pods: `factor` 1 is not at all."""

    gate: str
    factor: float
    events: int


def examination_of(entries: Sequence[Entry]) -> tuple[Panel, ...]:
    """A panel for each gate of the examination, with one reading: its last."""
    examined = next((entry for entry in reversed(entries) if entry.kind == "examined"), None)
    if examined is None:
        return ()
    verdicts = examined.data.get("verdicts") or [examined.data["verdict"]]
    return panels_of([LookAt(examined.at, BEFORE_ANY_STEP, 0, None, verdicts)])


def bursts_of(calibrated: Mapping[str, Any]) -> tuple[Burst, ...]:
    """By gate; empty if nothing was measured."""
    return tuple(Burst(gate, found["factor"], found["events"]) for gate, found in calibrated.items())
