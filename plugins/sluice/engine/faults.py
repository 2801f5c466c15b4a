"""The faults of drills: what each does to a version, which gates must stop it, and when that was last shown.

A drill's release id names its fault, so that the ledger's drills are found without reading its releases.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from sluice.policy import ReleasePolicy
from sluice.ports import Ledger

DRILLED = "drilled"
"""Kind of the ledger entry that holds a drill's result."""
WRONG_SHARE = 0.5
BROKEN_SHARE = 0.3
"""Share of requests that a version with the fault `failing` refuses, or `hanging` never answers."""
LATE_LIMITS = 1.5
"""How late a slow version's first token is, in limits (`gates.latency.ttft`)."""
_ID = re.compile(r"\d{8}t\d{6}-drill-([a-z]+)-[0-9a-f]{6}")


class Fault(StrEnum):
    """What is wrong with a version on purpose."""

    WRONG = "wrong"
    SLOW = "slow"
    FAILING = "failing"
    HANGING = "hanging"


BLOCKED_BY: Mapping[Fault, frozenset[str]] = {
    Fault.WRONG: frozenset({"quality"}),
    Fault.SLOW: frozenset({"latency"}),
    Fault.FAILING: frozenset({"quality", "errors"}),  # a failed answer scores 0
    Fault.HANGING: frozenset({"quality", "errors", "latency"}),  # it failed, and it did so by being late
}
"""The gates whose verdict shows that a fault is noticed for what it is."""


def settings_of(policy: ReleasePolicy, fault: Fault) -> dict[str, str]:
    """The serving settings that give a version the fault, and keep it from answering any user."""
    late_seconds = LATE_LIMITS * policy.gates.latency.ttft.total_seconds()
    how = {
        Fault.WRONG: f"wrong:{WRONG_SHARE:g}",
        Fault.SLOW: f"late:{late_seconds:g}",
        Fault.FAILING: f"error:{BROKEN_SHARE:g}",
        Fault.HANGING: f"hang:{BROKEN_SHARE:g}",
    }
    return {"allow_faults": "1", "probes_only": "1", "fault": how[fault]}


def drill_id(fault: Fault, at: datetime, run: str) -> str:
    """The id of a drill's release: the same for every attempt of one run, and sorts by time with other releases."""
    return f"{at:%Y%m%dt%H%M%S}-drill-{fault}-{hashlib.sha256(run.encode()).hexdigest()[:6]}"


def fault_of(release: str) -> Fault | None:
    """The fault of a drill, by its release id; None for any other release."""
    match = _ID.fullmatch(release)
    return Fault(match[1]) if match and match[1] in set(Fault) else None


async def last_drill(ledger: Ledger, model: str) -> Mapping[Fault, datetime]:
    """When each fault was last blocked as it should be; faults that never were are absent."""
    last: dict[Fault, datetime] = {}
    for release in reversed(await ledger.releases(model)):
        fault = fault_of(release)
        if fault is None or fault in last:
            continue
        for entry in await ledger.entries(model, release):
            if entry.kind == DRILLED and entry.data["passed"]:
                last[fault] = entry.at
    return last


def overdue(policy: ReleasePolicy, last: Mapping[Fault, datetime], now: datetime) -> str:
    """Why the policy's `drill.max_age` forbids a release now, and the remedy; "" if it does not."""
    max_age = policy.drill.max_age
    if max_age is None:
        return ""
    missing = [
        f"{fault}: {f'passed {_span(now - last[fault])} ago' if fault in last else 'never passed'}"
        for fault in map(Fault, policy.drill.faults)
        if fault not in last or now - last[fault] > max_age
    ]
    if not missing:
        return ""
    return (
        f"{policy.model}: drill.max_age asks for drills within {_span(max_age)} ({', '.join(missing)}); "
        f"run: sluice drill {policy.model}"
    )


def _span(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
