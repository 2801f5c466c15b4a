"""settle and conclude: make the cluster match the recorded outcome, and say what it is.

Both are idempotent and run whatever happened before: a failed gate, a person's "mark failed", lost tasks, the guard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sluice import release as state
from sluice.engine.journal import Journal, use_case
from sluice.engine.plan import Plan
from sluice.engine.writes import ATTEMPTS, restore
from sluice.errors import Conflict, Refused, RolledBack, SluiceError, Unreachable
from sluice.ports import Entry, Ports
from sluice.release import Phase, Record

STOPPED = "stopped before its end: its run was marked failed, or its tasks were lost"
DRY_RUN = "it was a dry run, which ends with the examination"
REPORT = "report.html"
QUIET_SECONDS = 1.0
"""A window without a start at the version that lost its traffic shows that the gateway has taken the write."""


async def settle(ports: Ports, plan: Plan) -> Record | None:
    """Committed → the new version has 100 %; everything else → last good has 100 %. Then drain, drop, close.

    Returns the closed record, None if the release never wrote anything. Raises Unreachable (retry), Superseded.
    """
    async with use_case(ports, plan, "settle") as journal:
        seen = await ports.traffic.read()
        if seen.record is None or seen.record.release != plan.release:
            await ports.lease.release(plan.release)
            return None
        record = seen.record
        if not record.closed:
            entries = await ports.ledger.entries(plan.model, plan.release)
            record = await restore(ports.traffic, ports.clock, plan.release, cause(plan, entries))
            await journal.note("decided", {"phase": record.phase.value, "reason": record.reason})
        record = await _finish(ports, plan, record)
        await _verify(ports, plan, record, journal)
        await ports.lease.release(plan.release)
        return record


def cause(plan: Plan, entries: Sequence[Entry]) -> str:
    """Why an undecided release ends: what failed last for good, else that it was meant to, or stopped from outside."""
    failures = _failures(entries)
    if failures:
        return failures[-1]
    return DRY_RUN if plan.request.dry_run and any(map(_passed_the_examination, entries)) else STOPPED


def _passed_the_examination(entry: Entry) -> bool:
    """Its end says so, not its verdict: it may have been killed between the two."""
    return entry.kind == "ended" and entry.data["use_case"] == "examine" and "error" not in entry.data


def _failures(entries: Sequence[Entry]) -> list[str]:
    """What the release's tasks failed of, oldest first, without what was tried again since."""
    last: dict[tuple[str, int | None], str] = {}
    for entry in entries:
        if entry.kind in ("started", "ended") and entry.data["use_case"] != "conclude":
            task = (entry.data["use_case"], entry.data["step"])
            last.pop(task, None)
            last[task] = entry.data.get("sentence", "")
    return [sentence for sentence in last.values() if sentence]


async def settle_leftover(ports: Ports, plan: Plan, record: Record) -> None:
    """Bring an earlier release, whose lease has run out, to its end before a new one opens."""
    record = await restore(
        ports.traffic, ports.clock, record.release, f"abandoned: its lease ran out; settled by release {plan.release}"
    )
    await _finish(ports, plan, record)


async def _finish(ports: Ports, plan: Plan, record: Record) -> Record:
    """Drain the version that lost, close the record, sweep, delete. Each part may have happened before.

    What an earlier release left behind, because it was killed at just this, goes as well.
    """
    winner, loser = _winner_and_loser(record)
    if not record.closed:
        await _drained(ports, plan, loser)
        record = await _close(ports, plan, record)
    await ports.traffic.sweep([winner])
    for version in await ports.workloads.versions():
        if version != winner:
            await ports.workloads.remove(version)
    return record


def _winner_and_loser(record: Record) -> tuple[str, str]:
    if record.phase is Phase.COMMITTED:
        return record.canary, record.last_good
    return record.last_good, record.canary


async def _drained(ports: Ports, plan: Plan, version: str) -> None:
    """Until a window has passed in which no request started at the version, or its deadline has."""
    give_up = ports.clock.monotonic() + plan.policy.deadlines.drain.total_seconds()
    before = -1
    while ports.clock.monotonic() <= give_up:
        try:
            totals = (await ports.telemetry.totals([version], plan.policy.gates.limits_seconds)).get(version)
        except Unreachable:
            totals = None
        started = totals.started if totals else 0
        in_flight = totals.started - totals.attempts if totals else 0
        if started == before and in_flight <= 0:
            return
        before = started
        await ports.clock.sleep(QUIET_SECONDS)


async def _close(ports: Ports, plan: Plan, record: Record) -> Record:
    for _ in range(ATTEMPTS):
        seen = await ports.traffic.read()
        if seen.record is None or seen.record.release != record.release:
            raise Refused(f"release {record.release} lost its record while it was settled; look who edits {plan.model}")
        closed = state.closed(seen.record)
        try:
            await ports.traffic.write(seen, closed)
        except Conflict:
            continue
        return closed
    raise Conflict(f"{plan.model}: the VirtualService changed under {ATTEMPTS} attempts to close the release")


async def _verify(ports: Ports, plan: Plan, record: Record, journal: Journal) -> None:
    seen = await ports.traffic.read()
    if dict(seen.weights) != dict(state.weights(record)):
        shares = ", ".join(f"{version} {share} %" for version, share in seen.weights.items())
        raise Refused(
            f"{plan.model}: the release is over, but the traffic is {shares}; look who edits the VirtualService"
        )
    await journal.note("settled", {"phase": record.phase.value, "reason": record.reason, "weights": dict(seen.weights)})


# --- conclude --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conclusion:
    """What came of a release."""

    outcome: str
    """promoted, rolled_back, dry_run or nothing_to_do."""
    sentence: str

    def to_record(self) -> dict[str, Any]:
        return vars(self).copy()


async def conclude(ports: Ports, plan: Plan, log: Callable[[str], None] = lambda line: None) -> Conclusion:
    """The outcome, from the ledger. Raises RolledBack or Refused unless what was asked for holds and is verified."""
    async with use_case(ports, plan, "conclude") as journal:
        conclusion = conclusion_of(plan, await ports.ledger.entries(plan.model, plan.release))
        await journal.note("concluded", conclusion.to_record())
        await _report(ports, plan, log)
        if conclusion.outcome == "rolled_back":
            raise RolledBack(conclusion.sentence)
        return conclusion


async def _report(ports: Ports, plan: Plan, log: Callable[[str], None]) -> None:
    """The release's page. It can be made again at any time, so it never changes how the release ends."""
    try:
        page = await ports.report(await ports.ledger.entries(plan.model, plan.release))
        log(f"all the evidence on one page: {await ports.ledger.attach(plan.model, plan.release, REPORT, page)}")
    except SluiceError as error:
        log(f"the page with the evidence could not be made: {error}")


def conclusion_of(plan: Plan, entries: Sequence[Entry]) -> Conclusion:
    """Raises Refused if nothing verified that the cluster matches the outcome."""
    name = f"{plan.model} {plan.request.revision} (version {plan.version})"
    settled = next((entry.data for entry in reversed(entries) if entry.kind == "settled"), None)
    if settled is None:
        raise Refused(f"{cause(plan, entries)}. Nothing verified the traffic of {name}: clear the task settle")
    if settled["phase"] == Phase.COMMITTED:
        return Conclusion("promoted", f"{name} was promoted and has all traffic")
    if settled["reason"] == DRY_RUN:
        return Conclusion("dry_run", f"{name} passed the examination; it was a dry run, so no user saw it")
    return Conclusion("rolled_back", f"{settled['reason']}. {name} was rolled back; last good has all traffic")
