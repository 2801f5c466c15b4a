"""build, begin, deploy: from a plan to a canary that probes reach and users do not."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from sluice import release as state
from sluice.engine.journal import use_case
from sluice.engine.plan import Plan
from sluice.engine.settle import settle_leftover
from sluice.engine.writes import ATTEMPTS
from sluice.errors import Conflict, DeadlineExceeded, Refused, SluiceError, Superseded, Unreachable
from sluice.ports import Ports
from sluice.release import Record

POLL_SECONDS = 0.25


async def build(ports: Ports, plan: Plan, root: Path, progress: Callable[[str], None]) -> str:
    """The version's image by digest; nothing is built if it exists. Raises Refused if it changed since the plan."""
    async with use_case(ports, plan, "build") as journal:
        found = await ports.images.find(plan.policy.image.repository, plan.version)
        if found is None:
            await _as_planned(ports, plan, root)
        if ports.cache is not None and plan.policy.image.weights == "cache":
            await ports.cache.put(plan.model, plan.revision, progress)
        image = found or await ports.images.build(plan.image(root), progress)
        await journal.note("image", {"image": image, "version": plan.version, "built": found is None})
        return image


async def _as_planned(ports: Ports, plan: Plan, root: Path) -> None:
    """An image of other content than its version says would be found under that version ever after."""
    context = plan.policy.image.context
    now = {
        f"the build context {context}": (await ports.images.context_digest(root / context), plan.context_digest),
        f"revision {plan.revision.name}": (
            (await ports.revisions.resolve(plan.revision.name)).digest,
            plan.revision.digest,
        ),
    }
    for part, (found, planned) in now.items():
        if found != planned:
            raise Refused(f"{part} changed after the release was planned; trigger a new release for it")


async def begin(ports: Ports, plan: Plan, token: str | None = None) -> Record:
    """Take the lease and record last good; adopts its own earlier record. Undoes the lease if it fails.

    Raises LeaseHeld, Ambiguous, or Refused (the release is over already).
    """
    async with use_case(ports, plan, "begin") as journal:
        await ports.lease.acquire(plan.release, plan.policy.lease)
        try:
            record = await _open(ports, plan, token or secrets.token_hex(8))
        except SluiceError:
            await _give_back(ports, plan)
            raise
        await journal.note("begun", {"last_good": record.last_good, "canary": record.canary, "epoch": record.epoch})
        return record


async def _give_back(ports: Ports, plan: Plan) -> None:
    """The lease; unless an earlier attempt has opened the release: then the guard must see the lease run out."""
    record = (await ports.traffic.read()).record
    if record is None or record.closed or record.release != plan.release:
        await ports.lease.release(plan.release)


async def _open(ports: Ports, plan: Plan, token: str) -> Record:
    for _ in range(ATTEMPTS):
        seen = await ports.traffic.read()
        if seen.record is not None and not seen.record.closed and seen.record.release != plan.release:
            await settle_leftover(ports, plan, seen.record)
            continue
        adopted = seen.record is not None and seen.record.release == plan.release
        record = state.begin(
            seen.record,
            release=plan.release,
            canary=plan.version,
            last_good="" if adopted else state.last_good(seen.weights, plan.model),
            ladder=plan.policy.ladder,
            token=token,
        )
        if record == seen.record:  # adopted as it is: what somebody did to the weights since then stays done
            return record
        try:
            await ports.traffic.write(seen, record)
        except Conflict:
            continue
        return record
    raise Conflict(f"{plan.model}: the VirtualService changed under {ATTEMPTS} attempts to open the release")


async def deploy(ports: Ports, plan: Plan, epoch: int, image: str) -> None:
    """The versioned workload next to stable, ready, reachable by header only.

    Raises DeadlineExceeded naming what the pods wait for, Refused when waiting is pointless.
    """
    async with use_case(ports, plan, "deploy") as journal:
        state.fence((await ports.traffic.read()).record, plan.release, epoch)
        await ports.workloads.ensure(plan.workload(image))
        await _wait_ready(ports, plan)
        await _wait_reachable(ports, plan)
        await journal.note("deployed", {"version": plan.version, "image": image})


async def _wait(ports: Ports, plan: Plan, what: str, missing: Callable[[], Awaitable[str]]) -> None:
    """Until `missing` has nothing to say. Raises DeadlineExceeded with what it said last."""
    limit_seconds = plan.policy.deadlines.ready.total_seconds()
    renewal_seconds = plan.policy.lease.total_seconds() / 10
    give_up = ports.clock.monotonic() + limit_seconds
    renew_at = ports.clock.monotonic()
    while sentence := await missing():
        now = ports.clock.monotonic()
        if now > give_up:
            raise DeadlineExceeded(f"{what} within deadlines.ready ({limit_seconds:g} s): {sentence}")
        if now >= renew_at:
            await ports.lease.renew(plan.release)
            renew_at = now + renewal_seconds
        await ports.clock.sleep(POLL_SECONDS)


async def _wait_ready(ports: Ports, plan: Plan) -> None:
    async def missing() -> str:
        status = await ports.workloads.status(plan.version)
        if status.failed:
            raise Refused(f"version {plan.version} cannot start: {status.failed}")
        return "" if status.ready >= status.desired > 0 else status.waiting_for or "its pods are not counted yet"

    await _wait(ports, plan, f"version {plan.version} was not ready", missing)


async def _wait_reachable(ports: Ports, plan: Plan) -> None:
    """Until the gateway leads probes to the very version: its answer names it."""
    record = (await ports.traffic.read()).record
    if record is None or record.release != plan.release:
        raise Superseded(f"release {plan.release} no longer owns the model's traffic")
    token = record.token

    async def missing() -> str:
        reached = await _probed_version(ports, token)
        if reached == plan.version:
            return ""
        return f"they reach {reached}; look at the route sluice-canary of the VirtualService"

    await _wait(ports, plan, f"probes by header did not reach version {plan.version}", missing)


async def _probed_version(ports: Ports, token: str) -> str:
    """What the gateway leads the canary's probes to; it needs a moment to learn of the route, and answers 404 until."""
    try:
        info = await ports.endpoint.model_info("canary", token)
    except Unreachable as error:
        return f"no version ({error})"
    return str(info.get("version") or "no version")
