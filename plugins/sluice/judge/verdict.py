"""What a gate answers: one of four outcomes, one plain sentence, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class InvalidGate(ValueError):
    """A gate's configuration that cannot be: names the field, its value and the range."""


class Outcome(StrEnum):
    """regression: roll back. non_inferior: may advance. inconclusive: hold, never ship. no_data: nothing to judge."""

    regression = "regression"
    non_inferior = "non_inferior"
    inconclusive = "inconclusive"
    no_data = "no_data"


@dataclass(frozen=True)
class Verdict:
    """A gate's answer at one moment. `numbers` are finite; e-values are cut at 1e300."""

    gate: str
    outcome: Outcome
    sentence: str
    numbers: Mapping[str, float]

    def to_record(self) -> dict[str, Any]:
        """Return the verdict as plain JSON."""
        return {
            "gate": self.gate,
            "outcome": self.outcome.value,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Verdict:
        """Read what `to_record` wrote.

        Raises:
            KeyError: a field is missing.
            ValueError: the outcome is none of the four.
        """
        return cls(record["gate"], Outcome(record["outcome"]), record["sentence"], dict(record["numbers"]))


def outcome_of(*, any_data: bool, regression: bool, non_inferior: bool) -> Outcome:
    """Return the outcome; regression wins where both hold (a tenfold rise from 0.01 % is within a point)."""
    if regression:
        return Outcome.regression
    if not any_data:
        return Outcome.no_data
    return Outcome.non_inferior if non_inferior else Outcome.inconclusive


def amount(value: float) -> str:
    """Write an e-value or its limit for a sentence: three digits below 1 000, whole numbers above."""
    if value >= 1e6:
        return "over a million"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def against(value: float, limit: float) -> str:
    """Write an e-value beside the limit that it must reach."""
    return f"e-value {amount(value)} {'≥' if value >= limit else '<'} {amount(limit)}"


def percent(rate: float) -> str:
    """Write a rate as percent with up to three digits."""
    return f"{100 * rate:.3g} %"


def points(margin: float) -> str:
    """Write a difference of rates as percentage points."""
    return f"{100 * margin:.3g} {'point' if round(100 * margin, 3) == 1 else 'points'}"
