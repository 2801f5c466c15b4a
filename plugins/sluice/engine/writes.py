"""The two ways to write traffic: up the ladder, fenced; and back to last good, tried until it holds."""

from __future__ import annotations

from sluice.engine.plan import Plan
from sluice.errors import Conflict, Refused, Superseded, Unreachable
from sluice.ports import Clock, Ports, RouteState, Traffic
from sluice.release import Change, Record, fence, rolled_back, weights

ATTEMPTS = 5
"""Re-reads after a conflict before a raising write gives up; the task's retry comes after that."""
RESTORE_PAUSE_SECONDS = 0.2


async def transition(ports: Ports, plan: Plan, epoch: int, change: Change) -> RouteState:
    """Write `change(record)` and the traffic it means, if (release, epoch) still may.

    Raises Superseded (rolled back, another release), Refused (out of order, or somebody edited the weights), Conflict
    (others keep writing the object), Unreachable.
    """
    for _ in range(ATTEMPTS):
        seen = await ports.traffic.read()
        record = change(fence(seen.record, plan.release, epoch))
        if record == seen.record and dict(seen.weights) == dict(weights(record)):
            return seen
        drift = drifted(seen)
        if drift:
            raise Refused(drift)
        try:
            return await ports.traffic.write(seen, record)
        except Conflict:
            continue
    raise Conflict(f"{plan.model}: the VirtualService changed under {ATTEMPTS} attempts to write it; look who edits it")


async def restore(
    traffic: Traffic, clock: Clock, release: str, reason: str, *, patience_seconds: float = 60.0
) -> Record:
    """Give last good all traffic, whatever the epoch. Returns the record that holds then (committed stays committed).

    Raises Superseded if another release owns the model by now, Unreachable after `patience_seconds`.
    """
    give_up = clock.monotonic() + patience_seconds
    while True:
        try:
            seen = await traffic.read()
            if seen.record is None or seen.record.release != release:
                raise Superseded(f"release {release} no longer owns the model's traffic; nothing was written")
            record = rolled_back(seen.record, reason)
            if record == seen.record and dict(seen.weights) == dict(weights(record)):
                return record
            if seen.record.closed:
                return seen.record
            return (await traffic.restore(seen, record)).record or record
        except (Conflict, Unreachable):
            if clock.monotonic() > give_up:
                raise
            await clock.sleep(RESTORE_PAUSE_SECONDS)


def drifted(seen: RouteState) -> str:
    """The sentence that names an outside edit of the weights during a release; "" if there is none."""
    if seen.record is None or seen.record.closed or dict(seen.weights) == dict(weights(seen.record)):
        return ""
    wanted = ", ".join(f"{version} {share} %" for version, share in weights(seen.record).items())
    found = ", ".join(f"{version} {share} %" for version, share in seen.weights.items())
    return f"somebody edited the weights during the release: {found} instead of {wanted}; put them back or stop the run"
