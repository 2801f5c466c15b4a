"""prune: remove from the model cache what no version uses. Never while a release is under way.

A version uses the revision that its Deployment names, whatever its share of the traffic: last good has a Deployment,
and so has a version that is kept warm. Pods outlive their Deployment, but not their release's lease. A release that has
put its revision and not begun yet has no lease either: the grace period is for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sluice.errors import LeaseHeld, Refused
from sluice.ports import Cache, Ports

GRACE = timedelta(days=1)
"""Longer than from a release's build to its deployment, queues and retries included."""


async def prune(
    ports: Ports, cache: Cache, model: str, grace: timedelta = GRACE, *, dry_run: bool = False
) -> Sequence[str]:
    """The names of the revisions that were removed, or would be.

    Raises LeaseHeld if a release is under way, Refused if a version does not say what it uses.
    """
    held = await ports.lease.read()
    if held is not None and held.holder:
        raise LeaseHeld(f"release {held.holder} of {model} is under way; prune when it is settled")
    keep = used(await ports.workloads.revisions())
    return await cache.prune(model, keep, ports.clock.now() - grace, dry_run=dry_run)


def used(revisions: Mapping[str, str]) -> frozenset[str]:
    """The digests in use. Raises Refused for a version that names none: nobody knows what would be taken from it."""
    if unknown := [version for version, digest in revisions.items() if not digest]:
        raise Refused(
            f"the Deployment of version {', '.join(unknown)} does not say its revision (REVISION of its container "
            "server); delete it if nothing needs it, then prune"
        )
    return frozenset(revisions.values())
