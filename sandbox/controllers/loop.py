"""The loop of all controllers: watch, decide, write; one object at a time, each as soon as something about it changes.

A write's answer goes into the local copy at once, so that the next decision does not repeat it. A write that fails
because the object moved on, or because the server is away, is decided afresh.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp

from sandbox.controllers import deployments, endpoint_slices, replica_sets
from sandbox.controllers.plan import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Create,
    Delete,
    Patch,
    Plan,
    Write,
    adopt,
    controller_uid,
    is_deleting,
    timestamp,
)
from sandbox.kubernetes_api import (
    ENDPOINT_SLICES,
    PODS,
    SERVICES,
    Informer,
    Key,
    KubernetesApi,
    KubernetesApiError,
    Object,
    Resource,
    key_of,
)

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2
_WATCHED = (DEPLOYMENTS, REPLICA_SETS, PODS, SERVICES, ENDPOINT_SLICES)
Work = tuple[Resource, Key]
"""One Deployment, ReplicaSet or Service to look at."""


class Controllers:
    """All controllers over one local copy of the cluster. `await run()` works until cancelled."""

    def __init__(self, api: KubernetesApi, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._clock = clock
        self._due: dict[Work, None] = {}  # a set that keeps the order
        self._wake = asyncio.Event()
        self._informers = {one: Informer(api, one, self._changes_of(one)) for one in _WATCHED}

    async def run(self) -> None:
        """Watch and reconcile for ever."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                tasks.create_task(informer.run())
            for informer in self._informers.values():
                await informer.synced.wait()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._due:
                    work = next(iter(self._due))
                    del self._due[work]
                    await self._handle(work)

    def _changes_of(self, resource: Resource) -> Callable[[str, Object], None]:
        def changed(_: str, item: Object) -> None:
            for work in self._affected(resource, item):
                self._enqueue(work)

        return changed

    def _enqueue(self, work: Work) -> None:
        self._due[work] = None
        self._wake.set()

    def _affected(self, resource: Resource, item: Object) -> Iterable[Work]:
        """What has to be looked at when this object changed: itself, its controllers, the services around a pod."""
        namespace = item["metadata"]["namespace"]
        if resource in (DEPLOYMENTS, REPLICA_SETS, SERVICES):
            yield resource, key_of(item)
        if resource is ENDPOINT_SLICES:
            name = item["metadata"].get("labels", {}).get(endpoint_slices.SERVICE_LABEL)
            yield SERVICES, (namespace, str(name))
        if resource is PODS:
            yield from ((SERVICES, key) for key in self._informers[SERVICES].items if key[0] == namespace)
        for reference in item["metadata"].get("ownerReferences", ()):
            owner = {"ReplicaSet": REPLICA_SETS, "Deployment": DEPLOYMENTS}.get(reference["kind"])
            if owner is None:
                continue
            yield owner, (namespace, reference["name"])
            above = self._informers[owner].items.get((namespace, reference["name"]))
            if resource is PODS and above is not None:
                yield from self._affected(owner, above)

    async def _handle(self, work: Work) -> None:
        try:
            plan = self._plan(*work)
            for write in plan.writes:
                await self._write(write)
        except KubernetesApiError as error:
            if error.reason not in ("Conflict", "NotFound"):
                log.warning("%s %s/%s: %s", work[0].plural, *work[1], error)
            self._later(work, _RETRY_SECONDS)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("%s %s/%s: the API server is away: %s", work[0].plural, *work[1], error)
            self._later(work, _RETRY_SECONDS)
        else:
            if plan.again_seconds is not None:
                self._later(work, plan.again_seconds + 0.01)

    def _later(self, work: Work, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._enqueue, work)

    def _plan(self, resource: Resource, key: Key) -> Plan:
        item = self._informers[resource].items.get(key)
        now = self._clock()
        if item is None:
            return Plan()
        if adopted := self._adopted(resource, item):
            return Plan(adopted)
        if resource is DEPLOYMENTS:
            owned = self._controlled(REPLICA_SETS, [item])
            return deployments.reconcile(item, owned, self._controlled(PODS, owned), now)
        if resource is REPLICA_SETS:
            return replica_sets.reconcile(item, self._controlled(PODS, [item]), now)
        pods = [one for one in self._around(PODS, item) if endpoint_slices.selects(item, one)]
        name = item["metadata"]["name"]
        slices = [
            one
            for one in self._around(ENDPOINT_SLICES, item)
            if one["metadata"].get("labels", {}).get(endpoint_slices.SERVICE_LABEL) == name
        ]
        return endpoint_slices.reconcile(item, pods, slices, now)

    def _adopted(self, resource: Resource, owner: Object) -> tuple[Write, ...]:
        if resource is SERVICES or is_deleting(owner):
            return ()
        below, kind = (REPLICA_SETS, "Deployment") if resource is DEPLOYMENTS else (PODS, "ReplicaSet")
        found = self._around(below, owner)
        return adopt(owner, kind, below, (one for one in found if controller_uid(one) is None and not is_deleting(one)))

    def _around(self, resource: Resource, item: Object) -> list[Object]:
        namespace = item["metadata"]["namespace"]
        return [one for key, one in self._informers[resource].items.items() if key[0] == namespace]

    def _controlled(self, resource: Resource, owners: Sequence[Object]) -> list[Object]:
        uids = {owner["metadata"]["uid"] for owner in owners}
        return [one for one in self._informers[resource].items.values() if controller_uid(one) in uids]

    async def _write(self, write: Write) -> None:
        if isinstance(write, Create):
            created = await self._api.create(write.resource, write.body["metadata"]["namespace"], write.body)
            self._learn(write.resource, created, seen=None)
        elif isinstance(write, Patch):
            metadata = write.item["metadata"]
            made_for = {**write.changes.get("metadata", {}), "resourceVersion": metadata["resourceVersion"]}
            changes = {**write.changes, "metadata": made_for}
            patched = await self._api.merge_patch(
                write.resource, metadata["namespace"], metadata["name"], changes, write.subresource
            )
            self._learn(write.resource, patched, seen=write.item)
        else:
            await self._delete(write)

    async def _delete(self, write: Delete) -> None:
        metadata = write.item["metadata"]
        seconds = write.item.get("spec", {}).get("terminationGracePeriodSeconds", 0)
        try:
            await self._api.delete(write.resource, metadata["namespace"], metadata["name"], metadata["uid"], seconds)
        except KubernetesApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._informers[write.resource].items.pop(key_of(write.item), None)
        going = {**metadata, "deletionTimestamp": timestamp(self._clock())}
        self._learn(write.resource, {**write.item, "metadata": going}, seen=write.item)

    def _learn(self, resource: Resource, item: Object, seen: Object | None) -> None:
        """Take an answer into the local copy, unless the watch has brought something since `seen` (None: nothing)."""
        informer = self._informers.get(resource)
        if informer is None or informer.items.get(key_of(item)) is not seen:
            return
        informer.items[key_of(item)] = item
        for work in self._affected(resource, item):
            self._enqueue(work)
