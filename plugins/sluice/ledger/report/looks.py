"""Looks at the evidence: as folding a release's entries again gives them, or only those that decided, as recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.ledger.report.records import field
from sluice.ports import Entry


@dataclass(frozen=True)
class LookAt:
    """What was known at one moment of a step."""

    at: datetime
    step: int
    """Index in the ladder; its length means the soak."""
    weight: int
    """Percent of live requests, as written."""
    observed_percent: float | None
    """The canary's share of the requests that started; None where no share is to be shown."""
    verdicts: Sequence[Mapping[str, Any]]
    """Each gate's verdict as a record: gate, outcome, sentence, numbers."""


def decisive(entries: Sequence[Entry]) -> list[LookAt]:
    """The looks that decided a step: all that is left where the entries cannot be folded any more."""
    return [
        LookAt(
            entry.at,
            entry.data["step"],
            entry.data.get("weight", 0),
            field(entry.data, "share.numbers.observed_percent", None),
            entry.data.get("verdicts", ()),
        )
        for entry in entries
        if entry.kind == "look"
    ]
