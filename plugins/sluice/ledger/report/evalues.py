"""E-values over time, gate by gate, each with the threshold at which it speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sluice.ledger.report.looks import LookAt

_E_VALUE = re.compile(r"(?:(?P<what>.+?)_)?(?P<test>e_(?:regression|non_inferior|floor|category|excess))")
_TESTS = {
    "e_regression": "regression",
    "e_non_inferior": "non-inferiority",
    "e_floor": "below the floor",
    "e_category": "a category got worse",
    "e_excess": "worse by more than min_excess",
}


@dataclass(frozen=True)
class Reading:
    at: datetime
    step: int
    e: float


@dataclass(frozen=True)
class Series:
    """One test's e-value. At `limit` it speaks: for rolling back, or (`promotes`) for going on."""

    name: str
    promotes: bool
    limit: float
    readings: tuple[Reading, ...]

    @property
    def highest(self) -> float:
        return max(reading.e for reading in self.readings)

    @property
    def reached(self) -> bool:
        return self.highest >= self.limit


@dataclass(frozen=True)
class Panel:
    """All tests of one gate."""

    gate: str
    series: tuple[Series, ...]


def panels_of(looks: Sequence[LookAt]) -> tuple[Panel, ...]:
    """A panel for each gate with e-values and limits, in the order in which the gates first spoke."""
    found: dict[str, dict[str, tuple[float, list[Reading]]]] = {}
    for look in looks:
        for verdict in look.verdicts:
            for name, e, limit in e_values(verdict["numbers"]):
                _, readings = found.setdefault(verdict["gate"], {}).setdefault(name, (limit, []))
                readings.append(Reading(look.at, look.step, e))
    return tuple(
        Panel(gate, tuple(_series(name, limit, readings) for name, (limit, readings) in tests.items()))
        for gate, tests in found.items()
    )


def e_values(numbers: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, e-value, limit) of each test in a verdict's numbers; a metric's own limit, or that of all of them."""
    found = []
    for name, value in numbers.items():
        match = _E_VALUE.fullmatch(name)
        limit = numbers.get(f"{name}_limit", numbers.get(f"{match['test']}_limit")) if match else None
        if limit is not None:
            found.append((name, value, limit))
    return found


def _series(name: str, limit: float, readings: Sequence[Reading]) -> Series:
    match = _E_VALUE.fullmatch(name)
    assert match is not None, name
    what = f"{match['what'].replace('_', ' ')}: " if match["what"] else ""
    return Series(what + _TESTS[match["test"]], match["test"] == "e_non_inferior", limit, tuple(readings))
