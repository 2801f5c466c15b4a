"""The ladder: what was written, what was seen, and what each step waited for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sluice.ledger.report.looks import LookAt
from sluice.ledger.report.records import field, seconds_of, step_name
from sluice.ports import Entry


@dataclass(frozen=True)
class Wait:
    """What a step waited for, and how long."""

    what: str
    seconds: float


@dataclass(frozen=True)
class StepTold:
    """One step, from its write to its decision."""

    name: str
    desired: int
    """Percent of live requests."""
    observed: float | None
    """Percent of the requests that started at this step; None where no share was to be shown."""
    canary_requests: int
    seconds: float
    action: str
    """advance, roll_back, or "" while it is not decided."""
    sentence: str
    waits: tuple[Wait, ...]


@dataclass(frozen=True)
class Point:
    at: datetime
    percent: float


@dataclass(frozen=True)
class Ladder:
    """`desired`: the canary's weight from each moment on. `observed`: its share, measured since the step began."""

    planned: tuple[int, ...]
    steps: tuple[StepTold, ...]
    desired: tuple[Point, ...]
    observed: tuple[Point, ...]

    @property
    def exposed(self) -> bool:
        return any(point.percent > 0 for point in self.desired)


def ladder_of(entries: Sequence[Entry], looks: Sequence[LookAt], version: str, policy: Mapping[str, Any]) -> Ladder:
    """The ladder of a release whose canary is `version`."""
    planned = tuple(step.get("weight", 0) for step in policy.get("steps", ()))
    shifts = {entry.data["step"]: entry for entry in entries if entry.kind == "shifted"}
    decided = {entry.data["step"]: entry for entry in entries if entry.kind == "look"}
    steps = [
        _step(step, shift, decided.get(step), [look for look in looks if look.step == step], version, policy)
        for step, shift in sorted(shifts.items())
    ]
    observed = [Point(look.at, look.observed_percent) for look in looks if look.observed_percent is not None]
    return Ladder(planned, tuple(steps), _desired(entries, version), tuple(observed))


def _desired(entries: Sequence[Entry], version: str) -> tuple[Point, ...]:
    """The canary's weight at each write: up with the shifts, down with the look that rolled back, then as settled."""
    points = []
    for entry in entries:
        if entry.kind in ("shifted", "settled") and "weights" in entry.data:
            points.append(Point(entry.at, entry.data["weights"].get(version, 0)))
        elif entry.kind == "look" and entry.data["action"] == "roll_back":
            points.append(Point(entry.at, 0))
    return tuple(points)


def _step(
    step: int, shift: Entry, decided: Entry | None, looks: Sequence[LookAt], version: str, policy: Mapping[str, Any]
) -> StepTold:
    look = decided.data if decided else {}
    steps = policy.get("steps", ())
    soaking = step >= len(steps)
    last = looks[-1] if looks else None
    observed = field(look, "share.numbers.observed_percent", last.observed_percent if last else None)
    end = decided.at if decided else last.at if last else shift.at
    hold = seconds_of(policy.get("soak") if soaking else steps[step].get("hold")) or 0.0
    rest = "decision" if soaking else "evidence" if step == len(steps) - 1 else "requests"
    return StepTold(
        name=step_name(step, len(steps)),
        desired=shift.data.get("weights", {}).get(version, 0),
        observed=observed,
        canary_requests=look.get("canary_requests", 0),
        seconds=(end - shift.at).total_seconds(),
        action=look.get("action", ""),
        sentence=look.get("sentence", "not decided yet"),
        waits=_waits(shift.at, end, None if soaking else _agreed_at(looks, observed), hold, soaking, rest),
    )


def _agreed_at(looks: Sequence[LookAt], observed: float | None) -> datetime | None:
    """When the share was shown to be as written; None if it never was, or nothing tells."""
    if observed is None:
        return None
    for look in looks:
        if any(verdict["gate"] == "share" and verdict["outcome"] == "non_inferior" for verdict in look.verdicts):
            return look.at
    return None


def _waits(
    start: datetime, end: datetime, agreed: datetime | None, hold_seconds: float, soaking: bool, rest: str
) -> tuple[Wait, ...]:
    """The stretches from `start` to `end`: for the share, the hold, the `rest`; without those of no length."""
    marks = [(start, "")]
    if agreed is not None:
        marks.append((agreed, "share to agree"))
    if agreed is not None or soaking:
        held = min(end, (agreed or start) + timedelta(seconds=hold_seconds))
        marks.append((held, "soak" if soaking else "hold"))
    marks.append((end, rest if len(marks) > 1 else "decision"))
    waits = [Wait(what, (until - since).total_seconds()) for (since, _), (until, what) in itertools.pairwise(marks)]
    return tuple(wait for wait in waits if wait.seconds >= 0.05)
