"""Replay: every verdict of a release computed again from its ledger, beside what was recorded. Pure.

The ledger keeps what was counted; verdicts are folds over it. So a recorded verdict that the fold does not give again
was not made by this judge from this evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.engine.evidence import Evidence
from sluice.engine.examination import refold
from sluice.engine.gates import UNMEASURED, Calibration
from sluice.engine.plan import Plan
from sluice.errors import Refused
from sluice.judge import Verdict
from sluice.ports import Entry
from sluice.release import NO_VERSION


@dataclass(frozen=True)
class Compared:
    """One recorded verdict and the same one computed again."""

    entry_number: int
    gate: str
    recorded: Mapping[str, Any]
    recomputed: Mapping[str, Any]

    @property
    def same(self) -> bool:
        return self.recorded == self.recomputed


@dataclass(frozen=True)
class Judged:
    """What the evidence said at one look, decided or not."""

    at: datetime
    step: int
    weight: int
    observed_percent: float | None
    """The canary's share of the requests that started at this step; None where none is shown."""
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Replayed:
    compared: Sequence[Compared]
    looks: Sequence[Judged]

    @property
    def same(self) -> bool:
        return all(one.same for one in self.compared)


def replay(entries: Sequence[Entry]) -> Replayed:
    """All of a release's verdicts again; none for one that was never planned.

    Raises Refused for entries of another form, as earlier versions of the library wrote them.
    """
    try:
        plan = next((Plan.from_record(entry.data) for entry in entries if entry.kind == "plan"), None)
        return Replayed([], []) if plan is None else _replay(plan, entries)
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Refused(
            f"the release cannot be replayed: its entries have another form than today's ({what}); replay it with the "
            "version of the library that recorded it"
        ) from error


def _replay(plan: Plan, entries: Sequence[Entry]) -> Replayed:
    evidence: Evidence | None = None
    calibration = UNMEASURED
    compared: list[Compared] = []
    looks: list[Judged] = []
    for entry in entries:
        if entry.kind == "begun":
            evidence = evidence or _begun(plan, entry)
        elif entry.kind == "calibrated":
            calibration = Calibration.from_record(entry.data)
        elif entry.kind == "examined":
            compared += _examined(plan, calibration, entry)
        elif entry.kind == "look" and evidence is not None:
            compared += _looked(evidence, entry)
        if evidence is not None:
            evidence = evidence.take(entry)
            if entry.kind == "window" and evidence.step >= 0:
                looks.append(_judged(evidence, entry))
    return Replayed(compared, looks)


def _begun(plan: Plan, entry: Entry) -> Evidence:
    last_good = entry.data["last_good"]
    return Evidence.of(plan.policy, entry.data["canary"], None if last_good == NO_VERSION else last_good)


def _examined(plan: Plan, calibration: Calibration, entry: Entry) -> Iterator[Compared]:
    again = {verdict.gate: verdict.to_record() for verdict in refold(plan.policy, calibration, entry.data).verdicts}
    for recorded in entry.data["verdicts"]:
        yield Compared(entry.number, recorded["gate"], recorded, again.get(recorded["gate"], {}))


def _looked(evidence: Evidence, entry: Entry) -> Iterator[Compared]:
    recorded = [*entry.data["verdicts"], *([entry.data["share"]] if entry.data["share"] else [])]
    again = {verdict.gate: verdict.to_record() for verdict in evidence.verdicts}
    if evidence.share is not None:
        again["share"] = evidence.share.verdict().to_record()
    for verdict in recorded:
        yield Compared(entry.number, verdict["gate"], verdict, again.get(verdict["gate"], {}))


def _judged(evidence: Evidence, entry: Entry) -> Judged:
    share = evidence.share.verdict() if evidence.share else None
    observed = share.numbers.get("observed_percent") if share else None
    verdicts = [*evidence.verdicts, *([share] if share else [])]
    return Judged(entry.at, entry.data["step"], evidence.weight, observed, verdicts)
