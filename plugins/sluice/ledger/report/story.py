"""What a release's page tells: plain data, taken from the ledger's entries and the looks folded from them. Pure.

Entries of earlier versions of the library hold less than today's; what is missing is missing from the story as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.ledger.report.behaviour import Event, events_of
from sluice.ledger.report.contract import Contract, contract_of
from sluice.ledger.report.evalues import Panel, panels_of
from sluice.ledger.report.examination import Burst, bursts_of, examination_of
from sluice.ledger.report.fidelity import Fidelity, fidelity_of
from sluice.ledger.report.ladder import Ladder, ladder_of
from sluice.ledger.report.latency import Curves, curves_of
from sluice.ledger.report.looks import LookAt, decisive
from sluice.ledger.report.quality import Quality, quality_of
from sluice.ledger.report.records import field, last_of, seconds_of
from sluice.ledger.report.verdicts import Told, told_of
from sluice.ledger.summary import summary
from sluice.ports import Entry
from sluice.release import NO_VERSION


@dataclass(frozen=True)
class Task:
    """One run of a use case."""

    name: str
    offset_seconds: float
    """From the trigger to its start."""
    seconds: float
    waited_seconds: float
    """Just before it, in which no use case ran."""


@dataclass(frozen=True)
class Story:
    """One release."""

    model: str
    release: str
    revision: str
    revision_digest: str
    version: str
    last_good: str
    """The version that had all traffic before; "" if there was none, or it is not known."""
    requested_by: str
    reason: str
    dry_run: bool
    first: bool
    """A model's first release: there is nothing to compare with."""
    outcome: str
    """promoted, rolled_back, dry_run, nothing_to_do, refused, unsettled or running."""
    sentence: str
    triggered_at: datetime
    ended_at: datetime
    seconds: float
    overhead_seconds: float
    tasks: tuple[Task, ...]
    ladder: Ladder
    examination: tuple[Panel, ...]
    """The e-values at which the examination ended."""
    panels: tuple[Panel, ...]
    """The e-values over the ladder."""
    bursts: tuple[Burst, ...]
    latency: Curves
    quality: Quality | None
    contract: Contract | None
    events: tuple[Event, ...]
    fidelity: Fidelity | None
    verdicts: tuple[Told, ...]
    policy: Mapping[str, Any]
    """The policy as the plan pinned it."""
    entries: int
    head: str
    """Hash of the last of the entries that the page was made from."""
    head_number: int

    @property
    def never_exposed(self) -> str:
        """Why there is nothing of users to be shown; "" if some saw the canary."""
        if self.ladder.exposed:
            return ""
        reasons = {
            "refused": "the release was refused before it touched anything",
            "nothing_to_do": "there was nothing to do",
            "dry_run": "it was a dry run, which ends with the examination",
            "running": "the release has not come so far yet",
        }
        return reasons.get(self.outcome, "the release ended before any user saw the canary")

    @property
    def never_examined(self) -> str:
        """Why there is nothing of the examination; "" if it was made."""
        if self.quality is not None:
            return ""
        if self.outcome in ("refused", "nothing_to_do", "running"):
            return self.never_exposed or "the ledger holds no examination"
        return "the release ended before its examination did"


def story_of(entries: Sequence[Entry], looks: Sequence[LookAt]) -> Story:
    """The story of one release; without `looks`, by those alone that decided its steps.

    Raises BadInput if there is no entry, or the first is not of its plan.
    """
    row = summary(entries)
    looks = looks or decisive(entries)
    plan = last_of(entries, "plan")
    policy, request = field(plan, "policy", {}), field(plan, "request", {})
    last_good = last_of(entries, "begun").get("last_good", "")
    version, triggered_at = plan.get("version", ""), datetime.fromisoformat(entries[0].data["triggered_at"])
    examined = last_of(entries, "examined")
    limits = {name: seconds_of(field(policy, "gates.latency", {}).get(name)) for name in ("ttft", "tpot", "e2e")}
    return Story(
        model=policy.get("model", ""),
        release=request.get("release", ""),
        revision=row["revision"],
        revision_digest=field(plan, "revision.digest", ""),
        version=version,
        last_good="" if last_good == NO_VERSION else last_good,
        requested_by=request.get("requested_by", ""),
        reason=request.get("reason", ""),
        dry_run=request.get("dry_run", False),
        first=last_good == NO_VERSION,
        outcome=row["outcome"],
        sentence=row["reason"],
        triggered_at=triggered_at,
        ended_at=entries[-1].at,
        seconds=row["seconds"],
        overhead_seconds=row["overhead_seconds"],
        tasks=_tasks(row["tasks"]),
        ladder=ladder_of(entries, looks, version, policy),
        examination=examination_of(entries),
        panels=panels_of(looks),
        bursts=bursts_of(last_of(entries, "calibrated")),
        latency=curves_of(entries, version, last_good, limits),
        quality=quality_of(examined),
        contract=contract_of(last_of(entries, "contract"), field(policy, "gates.contract.forbid", ())),
        events=events_of(entries, version, last_good),
        fidelity=fidelity_of(examined, field(policy, "gates.fidelity.limit", None)),
        verdicts=told_of(entries, looks, len(policy.get("steps", ()))),
        policy=policy,
        entries=len(entries),
        head=entries[-1].hash,
        head_number=entries[-1].number,
    )


def _tasks(rows: Sequence[Mapping[str, Any]]) -> tuple[Task, ...]:
    tasks: list[Task] = []
    busy_until = 0.0
    for row in rows:
        start = busy_until + row["overhead_seconds"]
        name = row["use_case"] if row["step"] is None else f"{row['use_case']} {row['step'] + 1}"
        tasks.append(Task(name, start, row["seconds"], row["overhead_seconds"]))
        busy_until = start + row["seconds"]
    return tuple(tasks)
