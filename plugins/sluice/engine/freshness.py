"""Whether there is anything to judge by: data are fresh, sparse, missing, contradictory, or cannot be read. Pure.

Only fresh data are judged. What becomes of a release whose data are not is the policy's to say, for each kind apart:
metrics that do not answer are not the canary's fault, a canary whose series vanish while stable's are there may be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from sluice.policy import Patience, ReleasePolicy
from sluice.ports import Totals

UNSEEN_ANSWERS = 20
"""So many answers that the gateway counts and the servers do not are no matter of two clocks any more."""


class Data(StrEnum):
    FRESH = "fresh"
    SPARSE = "sparse"
    MISSING = "missing"
    CONTRADICTORY = "contradictory"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class DataState:
    """How the data are at one moment."""

    kind: Data = Data.FRESH
    seconds: float = 0.0
    """Since when."""
    sentence: str = ""

    def patience(self, policy: ReleasePolicy) -> Patience:
        """What the policy says of this kind. Fresh data have none."""
        chosen: Patience = getattr(policy.data, self.kind.value)
        return chosen


FRESH = DataState()


@dataclass(frozen=True)
class Freshness:
    """What the windows of one step told about the data themselves."""

    since: datetime | None = None
    """When the step's weight was written: nothing can be older."""
    read_at: datetime | None = None
    ended_at: datetime | None = None
    """When a request of the canary ended last, as far as the windows tell."""
    silent_since: datetime | None = None
    """Since when the canary has no series although stable has requests."""
    unseen: int = 0
    """Answers of the canary at the gateway since its servers counted one."""
    unseen_since: datetime | None = None

    def observe(self, at: datetime, canary: Totals | None, stable: Totals | None) -> Self:
        """One window's increases; `canary` is None if no series mentions it."""
        if canary is None:
            silent = bool(stable and stable.started)
            return replace(self, read_at=at, silent_since=(self.silent_since or at) if silent else self.silent_since)
        served = canary.answered - canary.failed
        unseen = 0 if canary.completed or not served + self.unseen else self.unseen + served
        return replace(
            self,
            read_at=at,
            ended_at=at if canary.attempts else self.ended_at,
            silent_since=None,
            unseen=unseen,
            unseen_since=(self.unseen_since or at) if unseen else None,
        )

    def state(self, policy: ReleasePolicy, now: datetime, unreachable: str, contradiction: str) -> DataState:
        """The worst that can be said at `now`."""
        if unreachable:
            return DataState(Data.UNREACHABLE, _seconds(self.read_at or self.since, now), unreachable)
        if contradiction:
            return DataState(Data.CONTRADICTORY, _seconds(self.read_at or self.since, now), contradiction)
        if self.silent_since is not None:
            sentence = "the canary's series are missing while stable's are there"
            return DataState(Data.MISSING, _seconds(self.silent_since, now), sentence)
        if self.unseen >= UNSEEN_ANSWERS:
            sentence = f"the gateway counts {self.unseen} answers of the canary that its servers do not"
            return DataState(Data.CONTRADICTORY, _seconds(self.unseen_since, now), sentence)
        quiet = _seconds(self.ended_at or self.since, now)
        if quiet > policy.data.sparse.after.total_seconds():
            return DataState(Data.SPARSE, quiet, "no request of the canary has ended")
        return FRESH


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else (now - since).total_seconds()
