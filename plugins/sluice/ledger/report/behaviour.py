"""Odd answers: how often each behaviour event was seen, in the examination's probes and in users' answers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.ledger.report.records import ROLES, field, last_of
from sluice.ports import Entry


@dataclass(frozen=True)
class Seen:
    """How many of one version's answers showed an event."""

    events: int
    answers: int

    @property
    def rate(self) -> float:
        return self.events / self.answers if self.answers else 0.0


@dataclass(frozen=True)
class Event:
    """One kind of event in one kind of answers; None for a version that gave none."""

    name: str
    where: str
    """`probes` or `users`."""
    canary: Seen | None
    stable: Seen | None


def events_of(entries: Sequence[Entry], version: str, last_good: str) -> tuple[Event, ...]:
    """Every event that was seen at least once or was counted, those of the canary's first."""
    versions = {"canary": version, "stable": last_good}
    requests = last_of(entries, "examined").get("requests", ())
    users = {role: _users(entries, name) for role, name in versions.items() if name}
    probes = {role: _probes(requests, role) for role in ROLES}
    return (*_events("probes", probes), *_events("users", users))


Counted = tuple[Counter[str], int]
"""Answers by event, and how many answers there were."""


def _events(where: str, by_role: Mapping[str, Counted]) -> list[Event]:
    names = {name for counts, _ in by_role.values() for name in counts}
    events = [
        Event(name, where, _seen(by_role.get("canary"), name), _seen(by_role.get("stable"), name)) for name in names
    ]
    return sorted(events, key=lambda event: (-(event.canary.rate if event.canary else 0.0), event.name))


def _seen(counted: Counted | None, name: str) -> Seen | None:
    return Seen(counted[0][name], counted[1]) if counted and counted[1] else None


def _probes(requests: Sequence[Mapping[str, Any]], role: str) -> Counted:
    answers = [answer for request in requests if (answer := field(request, role, {})) and not answer.get("error")]
    return Counter(event for answer in answers for event in answer.get("events", ())), len(answers)


def _users(entries: Sequence[Entry], version: str) -> Counted:
    """What a version's counters rose by; a counter that falls started anew."""
    windows = [entry.data.get("totals", {}).get(version) for entry in entries if entry.kind == "window"]
    known = [window for window in windows if window and "behaviour" in window]
    counts: Counter[str] = Counter()
    answers = 0
    for before, after in itertools.pairwise([{}, *known] if _is_new(windows) else known):
        answers += max(0, after.get("completed", 0) - before.get("completed", 0))
        for name, count in after["behaviour"].items():
            counts[name] += max(0, count - before.get("behaviour", {}).get(name, 0))
    return counts, answers


def _is_new(windows: Sequence[Mapping[str, Any] | None]) -> bool:
    """Nothing was known of the version at the first look: all that was ever counted belongs to the release."""
    return bool(windows) and not windows[0]
