"""drill: the stable revision with a deliberate fault, as a release that ends with the examination, which must block it.

All of it goes through the use cases of a release, under a release id of its own, with the lease held and the ledger
written; no shift ever happens, and the server refuses whoever does not come as a probe. A drill proves something only
if a gate that fits its fault said `regression`: any other end, even one that blocks, fails it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sluice.engine.deploy import begin, build, deploy
from sluice.engine.examine import examine
from sluice.engine.faults import BLOCKED_BY, DRILLED, Fault, fault_of, settings_of
from sluice.engine.journal import Journal, Note
from sluice.engine.plan import Plan, Request, pinned_in, plan
from sluice.engine.settle import DRY_RUN, cause, conclude, settle
from sluice.errors import Refused, RetryLater, RolledBack, SluiceError
from sluice.judge import Outcome
from sluice.policy import ReleasePolicy
from sluice.ports import Entry, Ports
from sluice.release import NO_VERSION, Phase, last_good

ATTEMPTS = 5
PAUSE_SECONDS = 2.0
REASON = "a drill"

Value = TypeVar("Value")


class DrillFailed(Refused):
    """A fault was not blocked by a gate that fits it: releases are not safe until somebody has found out why."""


@dataclass(frozen=True)
class DrillResult:
    """What came of one fault's drill."""

    fault: str
    passed: bool
    gate: str
    """Whose verdict blocked the version; "" if none did."""
    sentence: str
    seconds: float
    """From the drill's first ledger entry until the traffic was verified to be as before."""
    pairs: int
    """Prompts that both versions were scored on until then."""

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


async def drill(
    ports: Ports,
    policy: ReleasePolicy,
    fault: Fault,
    *,
    release: str,
    requested_by: str,
    root: Path,
    progress: Callable[[str], None],
) -> DrillResult:
    """Put one fault through the gates and take everything back; an attempt after a killed one goes on where it was.

    Raises LeaseHeld while a release runs, Refused or Ambiguous if there is no stable version to compare with, BadInput
    for what no release could be planned with: nothing was touched then. Raises RetryLater if the world does not answer.
    """
    stopped_by: SluiceError | None = None
    done = result_in(await ports.ledger.entries(policy.model, release))
    if done is not None:
        return done
    try:
        await ports.lease.acquire(release, policy.lease)
        planned = await _tried_again(ports, partial(_planned, ports, policy, fault, release, requested_by, root))
        progress(f"{fault}: {planned.revision.name} with {planned.settings['fault']} is version {planned.version}")
        await _examined(ports, planned, root, lambda line: progress(f"{fault}: {line}"))
    except SluiceError as error:
        stopped_by = error
    finally:
        result = await finish(ports, policy.model, release)
    if result is None:
        assert stopped_by is not None
        raise stopped_by
    progress(f"{fault}: {'passed' if result.passed else 'FAILED'}, {result.sentence}")
    return result


async def finish(ports: Ports, model: str, release: str) -> DrillResult | None:
    """Take back what a drill has put into the cluster, and note its result; None if it never came to a plan.

    For the drill's own end, and for whoever comes after a process that was killed.
    """
    entries = await ports.ledger.entries(model, release)
    done = result_in(entries)
    if done is not None:
        return done
    if not any(entry.kind == "plan" for entry in entries):
        await ports.lease.release(release)
        return None
    planned = pinned_in(entries, model, release)
    if await _tried_again(ports, partial(settle, ports, planned)) is not None:
        with suppress(RolledBack):
            await _tried_again(ports, partial(conclude, ports, planned))
    result = judged(planned, await ports.ledger.entries(model, release))
    journal = Journal(ports, planned)
    await journal.note_patiently(Note(DRILLED, result.to_record(), ports.clock.now()))
    return result


# --- the way to the verdict ------------------------------------------------------------------------------------------


async def _planned(
    ports: Ports, policy: ReleasePolicy, fault: Fault, release: str, requested_by: str, root: Path
) -> Plan:
    """The plan that an earlier attempt has pinned, else a new one."""
    entries = await ports.ledger.entries(policy.model, release)
    if any(entry.kind == "plan" for entry in entries):
        return pinned_in(entries, policy.model, release)
    request = Request(
        release,
        await _stable_revision(ports, policy.model),
        REASON,
        requested_by,
        ports.clock.now(),
        dry_run=True,
        drill=str(fault),
        settings=settings_of(policy, fault),
    )
    return await plan(ports, policy, request, root)


async def _stable_revision(ports: Ports, model: str) -> str:
    """The revision, as its release named it, of the version that has all traffic once no release is open."""
    seen = await ports.traffic.read()
    if seen.record is None or seen.record.closed:
        version = last_good(seen.weights, model)
    else:  # abandoned, as its lease has run out: to begin will bring it to its end
        version = seen.record.canary if seen.record.phase is Phase.COMMITTED else seen.record.last_good
    if version == NO_VERSION:
        raise Refused(f"{model}: nothing serves yet, so a drill has nothing to compare with; release a revision first")
    for release in reversed(await ports.ledger.releases(model)):
        for entry in () if fault_of(release) else await ports.ledger.entries(model, release):
            if entry.kind == "plan" and entry.data["version"] == version:
                return str(entry.data["revision"]["name"])
    raise Refused(
        f"{model}: the ledger knows no release of version {version}, which has all traffic; release one first"
    )


async def _examined(ports: Ports, planned: Plan, root: Path, progress: Callable[[str], None]) -> None:
    """build, begin, deploy, examine. Raises RolledBack, as it should."""
    image = await _tried_again(ports, partial(build, ports, planned, root, progress))
    record = await _tried_again(ports, partial(begin, ports, planned))
    progress("waiting for its pods; only probes reach it")
    await _tried_again(ports, partial(deploy, ports, planned, record.epoch, image))
    progress("examining")
    await _tried_again(ports, partial(examine, ports, planned, record.epoch, root))


async def _tried_again(ports: Ports, attempt: Callable[[], Awaitable[Value]]) -> Value:
    """What may work soon is tried a few times, as an orchestrator would; a drill may run without one."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except RetryLater:
            await ports.clock.sleep(PAUSE_SECONDS)
    return await attempt()


# --- what it proves --------------------------------------------------------------------------------------------------


def result_in(entries: Sequence[Entry]) -> DrillResult | None:
    """The result that a drill has noted; None if it has not come to its end."""
    return next((DrillResult(**entry.data) for entry in entries if entry.kind == DRILLED), None)


def judged(planned: Plan, entries: Sequence[Entry]) -> DrillResult:
    """What a drill's entries prove. Pure."""
    fault = Fault(planned.request.drill)
    examined = _last(entries, "examined")
    gate, sentence = _blocked_by(planned, entries)
    ended = next((entry for entry in reversed(entries) if entry.kind == "settled"), entries[-1])
    passed = gate in BLOCKED_BY[fault]
    if gate and not passed:
        sentence = f"blocked, but not by {' or '.join(sorted(BLOCKED_BY[fault]))}: {sentence}"
    return DrillResult(
        fault=str(fault),
        passed=passed,
        gate=gate,
        sentence=sentence,
        seconds=(ended.at - entries[0].at).total_seconds(),
        pairs=len(examined["pairs"]) if examined else 0,
    )


def _blocked_by(planned: Plan, entries: Sequence[Entry]) -> tuple[str, str]:
    """The gate whose regression ended the release, "" if something else did; and the sentence that says it."""
    examined, settled = _last(entries, "examined"), _last(entries, "settled")
    reason = settled["reason"] if settled else cause(planned, entries)
    if not examined:
        return "", f"nothing is proven, because it did not come to a verdict: {reason}"
    outcome, sentence = examined["verdict"]["outcome"], examined["verdict"]["sentence"]
    if outcome == Outcome.non_inferior and reason == DRY_RUN:
        return "", f"not blocked, users would have seen it: {sentence}"
    if sentence not in reason:
        return "", f"nothing is proven, because something else ended it: {reason}"
    if outcome != Outcome.regression:
        return "", f"nothing is proven, because the gates could not tell: {sentence}"
    return examined["verdict"]["gate"], sentence


def _last(entries: Sequence[Entry], kind: str) -> Any:
    return next((entry.data for entry in reversed(entries) if entry.kind == kind), None)
