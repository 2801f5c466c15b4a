"""A model's traffic on the Kubernetes API: one VirtualService, and the subsets that it names in one DestinationRule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kubernetes_asyncio.client.api_client import ApiClient

from sluice import release
from sluice.cluster import destinationrule, virtualservice
from sluice.cluster.api import DESTINATION_RULE, VIRTUAL_SERVICE, Api, Sleep
from sluice.cluster.coordinates import Coordinates, Document, Operation
from sluice.errors import Conflict, Superseded
from sluice.ports import RouteState
from sluice.release import Phase, Record

ATTEMPTS = 5
"""Tries to write the DestinationRule: its subsets are nobody else's, so a conflict only means reading it again."""
RESTORE_ATTEMPTS = 50
"""Tries to go back to last good; the user's edits do not stop it, so more than a few mean that something is wrong."""
PAUSE_SECONDS = 0.1
"""After a conflict."""


class KubernetesTraffic:
    """`ports.Traffic` of the model whose objects `coordinates` name."""

    def __init__(self, client: ApiClient, coordinates: Coordinates, sleep: Sleep = asyncio.sleep) -> None:
        self._api = Api(client, sleep)
        self._coordinates = coordinates
        self._sleep = sleep

    async def read(self) -> RouteState:
        vs, dr = await asyncio.gather(self._virtual_service(), self._destination_rule())
        return virtualservice.read(vs, dr, self._coordinates)

    async def write(self, seen: RouteState, record: Record) -> RouteState:
        vs = await self._virtual_service()
        metadata = vs["metadata"]
        if (metadata["uid"], metadata["resourceVersion"]) != (seen.uid, seen.resource_version):
            raise Conflict(f"{self._coordinates.where} was written by somebody else since it was read")
        await self._ensure_subsets(record)
        return await self._send(vs, virtualservice.write_patch(vs, record, self._coordinates), repeatable=False)

    async def restore(self, seen: RouteState, record: Record) -> RouteState:
        """Reads and plans anew on a conflict: what was committed or rolled back since `seen` stays so.

        Raises Superseded if another release holds the traffic by now, Conflict if others write without a pause for
        RESTORE_ATTEMPTS, Unreachable if the API server does not answer.
        """
        for _ in range(RESTORE_ATTEMPTS - 1):
            try:
                return await self._restore(seen, record)
            except Conflict:
                await self._sleep(PAUSE_SECONDS)
        return await self._restore(seen, record)

    async def _restore(self, seen: RouteState, record: Record) -> RouteState:
        vs = await self._virtual_service()
        if vs["metadata"]["uid"] != seen.uid:
            raise Superseded(f"{self._coordinates.where} is another object than the release began with")
        planned = _replanned(virtualservice.record_of(vs, self._coordinates), seen, record)
        await self._ensure_subsets(planned)
        return await self._send(vs, virtualservice.restore_patch(vs, planned, self._coordinates), repeatable=True)

    async def sweep(self, keep: Sequence[str]) -> None:
        named = virtualservice.named_versions(await self._virtual_service(), self._coordinates)
        await self._patch_destination_rule(lambda dr: destinationrule.sweep_patch(dr, named | set(keep)))

    async def _virtual_service(self) -> Document:
        return await self._api.get(VIRTUAL_SERVICE, self._coordinates.namespace, self._coordinates.virtual_service)

    async def _destination_rule(self) -> Document:
        return await self._api.get(DESTINATION_RULE, self._coordinates.namespace, self._coordinates.destination_rule)

    async def _send(self, vs: Document, patch: list[Operation], repeatable: bool) -> RouteState:
        where = self._coordinates
        if patch:
            vs = await self._api.patch(VIRTUAL_SERVICE, where.namespace, where.virtual_service, patch, repeatable)
        return virtualservice.read(vs, await self._destination_rule(), where)

    async def _ensure_subsets(self, record: Record) -> None:
        """Before the VirtualService names them: a route to a subset that nobody defines answers 503."""
        versions = dict.fromkeys([*release.weights(record), *release.probed(record).values()])
        await self._patch_destination_rule(lambda dr: destinationrule.add_patch(dr, versions))

    async def _patch_destination_rule(self, plan: Callable[[Document], list[Operation]]) -> None:
        where = self._coordinates
        for attempt in range(1, ATTEMPTS + 1):
            patch = plan(await self._destination_rule())
            if not patch:
                return
            try:
                await self._api.patch(DESTINATION_RULE, where.namespace, where.destination_rule, patch)
                return
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
                await self._sleep(PAUSE_SECONDS)


def _replanned(current: Record | None, seen: RouteState, record: Record) -> Record:
    """What to write now, if the release went on since `seen`: what was committed meanwhile stays committed."""
    if current is None or current.release != record.release:
        holder = current.release if current else "nobody"
        raise Superseded(
            f"release {record.release} no longer owns the model's traffic, {holder} does; nothing was written"
        )
    if current in (seen.record, record):
        return record
    if record.phase is not Phase.ROLLED_BACK:
        raise Superseded(f"release {record.release} is at {release.describe(current)} by now; nothing was written")
    back = release.rolled_back(current, record.reason)
    return release.closed(back) if record.closed and back.phase is Phase.ROLLED_BACK else back
