"""shift, watch, promote, soak: up the ladder, one write and one verdict at a time.

A watch may be killed and started again anywhere: what it saw is in the ledger, what it wrote is in the cluster. The
watch that sees a regression gives last good its traffic back itself, at once; settle confirms and cleans up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from sluice import release as state
from sluice.engine.decision import Action, Decision, Look, decide
from sluice.engine.evidence import Evidence, window_record
from sluice.engine.journal import Journal, Note, use_case
from sluice.engine.plan import Plan
from sluice.engine.windows import distributions_record
from sluice.engine.writes import drifted, restore, transition
from sluice.errors import Refused, RolledBack, Unreachable
from sluice.judge import InvalidEvidence
from sluice.ports import Ports, Totals
from sluice.release import Record

REPORT_SECONDS = 10.0
"""Between two lines that say what a watch waits for."""


async def shift(ports: Ports, plan: Plan, epoch: int, step: int) -> Mapping[str, int]:
    """Give the canary the step's weight. Returns the weights that hold now."""
    async with use_case(ports, plan, "shift", step) as journal:
        await ports.lease.renew(plan.release)
        return await _raise(ports, plan, epoch, journal, step, lambda record: state.shifted(record, step))


async def promote(ports: Ports, plan: Plan, epoch: int) -> Mapping[str, int]:
    """The canary becomes stable; the old version keeps its holdback for the soak. One write."""
    async with use_case(ports, plan, "promote") as journal:
        await ports.lease.renew(plan.release)
        return await _raise(ports, plan, epoch, journal, len(plan.policy.steps), state.promoted)


async def _raise(
    ports: Ports, plan: Plan, epoch: int, journal: Journal, step: int, change: state.Change
) -> Mapping[str, int]:
    """Close the evidence of the step before, write, and note the new step once."""
    entries = await ports.ledger.entries(plan.model, plan.release)
    noted = any(entry.kind == "shifted" and entry.data["step"] == step for entry in entries)
    record = (await ports.traffic.read()).record
    if not noted and record is not None and not record.first:
        await journal.note("window", window_record(step - 1, await _totals(ports, plan, record)))
        await _note_distributions(ports, record, journal, step - 1)
    written = await transition(ports, plan, epoch, change)
    if not noted:
        await journal.note("shifted", {"step": step, "weights": dict(written.weights)})
    return written.weights


async def watch(
    ports: Ports, plan: Plan, epoch: int, step: int, report: Callable[[str], None] = lambda sentence: None
) -> Decision:
    """Look at each tick until the step's evidence decides. `step` = the ladder's length watches the soak and commits.

    Returns the decision to advance; a regression, a deadline, or a canary that cannot serve raises RolledBack after
    last good got its traffic back.
    """
    soaking = step == len(plan.policy.steps)
    change: state.Change = state.committed if soaking else lambda seen: state.advanced(seen, step)
    async with use_case(ports, plan, "soak" if soaking else "watch", None if soaking else step) as journal:
        record = state.fence((await ports.traffic.read()).record, plan.release, epoch)
        if change(record) == record:  # refuses a step that nobody opened, before it is watched
            return Decision(Action.ADVANCE, "decided before this task was started again")
        decision, notes = await _until_decided(ports, plan, epoch, step, journal, record, report)
        if decision.action is Action.ROLL_BACK:
            # Before anything is noted: the way back must not wait for the ledger.
            await restore(ports.traffic, ports.clock, plan.release, decision.sentence)
        for note in notes:
            await journal.note_patiently(note)
        await _note_distributions(ports, record, journal, step)
        if decision.action is Action.ROLL_BACK:
            raise RolledBack(decision.sentence)
        await transition(ports, plan, epoch, change)
        return decision


async def _until_decided(
    ports: Ports, plan: Plan, epoch: int, step: int, journal: Journal, record: Record, report: Callable[[str], None]
) -> tuple[Decision, Sequence[Note]]:
    """The decision, and what the ledger has to be told of it."""
    reported_at = -REPORT_SECONDS
    seen = Evidence.of(plan.policy, record.canary, None if record.first else record.last_good)
    evidence = seen.fold(await ports.ledger.entries(plan.model, plan.release))
    if evidence.step != step:
        raise Refused(
            f"step {step + 1}: its shift is not in the ledger, so its clock never started; clear its shift task"
        )
    tick_seconds = plan.policy.tick.total_seconds()
    while True:
        began = ports.clock.monotonic()
        evidence, look, unnoted = await _look(ports, plan, epoch, step, journal, evidence)
        decision = await asyncio.to_thread(decide, plan.policy, look)
        if decision.action is not Action.HOLD:
            decided = Note("look", evidence.to_record(look, decision), ports.clock.now())
            return decision, [*unnoted, decided]
        if began - reported_at >= REPORT_SECONDS:
            report(f"waits: {decision.sentence}")
            reported_at = began
        await ports.clock.sleep(max(0.0, tick_seconds - (ports.clock.monotonic() - began)))


async def _look(
    ports: Ports, plan: Plan, epoch: int, step: int, journal: Journal, evidence: Evidence
) -> tuple[Evidence, Look, Sequence[Note]]:
    """One tick: renew the lease, see that the traffic is ours and as written, gather and note the evidence.

    Returns the evidence that is noted, and the look with what could not be noted: that is looked at again, but a
    regression in it counts at once.
    """
    unreachable = contradiction = drift = lost = ""
    observed, unnoted = evidence, []
    try:
        await ports.lease.renew(plan.release)
        seen = await ports.traffic.read()
        record = state.fence(seen.record, plan.release, epoch)
        drift = drifted(seen)
        lost = await _lost(ports, record.canary)
        window = Note("window", window_record(step, await _totals(ports, plan, record)), ports.clock.now())
        observed = await asyncio.to_thread(evidence.observe, window.data, window.at)
        unnoted = [window]
        await journal.note(window.kind, window.data, window.at)
        evidence, unnoted = observed, []
    except Unreachable as error:
        unreachable = str(error)
    except InvalidEvidence as error:
        contradiction = str(error)
    look = observed.look(
        step, ports.clock.now(), unreachable=unreachable, contradiction=contradiction, drift=drift, lost=lost
    )
    return evidence, look, unnoted


async def _lost(ports: Ports, canary: str) -> str:
    """Why the canary cannot serve anybody; "" while it has a ready pod."""
    status = await ports.workloads.status(canary)
    return "" if status.ready else f"the canary has no ready pod: {status.failed or status.waiting_for}"


async def _totals(ports: Ports, plan: Plan, record: Record) -> Mapping[str, Totals]:
    versions = _versions(record)
    return await ports.telemetry.totals(versions, plan.policy.gates.limits_seconds)


def _versions(record: Record) -> Sequence[str]:
    return [version for version in (record.last_good, record.canary) if version != state.NO_VERSION]


async def _note_distributions(ports: Ports, record: Record, journal: Journal, step: int) -> None:
    """Whole histograms, for the report's curves; nothing is decided by them, so nothing waits for them."""
    with suppress(Unreachable):
        found = await ports.telemetry.distributions(_versions(record))
        await journal.note("distributions", {"step": step, "versions": distributions_record(found)})
