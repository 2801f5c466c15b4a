"""A release's claim on its model: a Lease, which also says where the traffic is, so the guard reads no policies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster.api import LEASE, Api, Missing, Sleep
from sluice.cluster.coordinates import Coordinates, Document
from sluice.errors import Ambiguous, Conflict, LeaseHeld, Superseded
from sluice.ports import LeaseState
from sluice.release import PREFIX

MODEL_LABEL = PREFIX + "model"
ATTEMPTS = 5
"""Tries to write a Lease that others write at the same time."""
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_WHERE = {
    "namespace": PREFIX + "namespace",
    "virtual_service": PREFIX + "virtual-service",
    "destination_rule": PREFIX + "destination-rule",
    "host": PREFIX + "host",
    "route": PREFIX + "route",
}
"""Annotation of each of the coordinates."""


@dataclass(frozen=True)
class ModelLease:
    """One model's lease, as the guard finds it."""

    model: str
    namespace: str
    state: LeaseState
    annotations: Mapping[str, str]

    def coordinates(self) -> Coordinates:
        """Where the model's traffic is. Raises Ambiguous if a person has damaged the annotations."""
        try:
            return Coordinates(**{field: self.annotations[key] for field, key in _WHERE.items()})
        except KeyError as error:
            raise Ambiguous(
                f"Lease {self.namespace}/{lease_name(self.model)}: the annotation {error} is missing, so the model's "
                "traffic cannot be found; restore it, or trigger the release again"
            ) from error


def lease_name(model: str) -> str:
    return f"sluice-{model}"


async def leases(client: ApiClient, namespaces: Sequence[str] = ()) -> list[ModelLease]:
    """The leases of all models in `namespaces`; in every namespace if none is named."""
    api = Api(client)
    found = [item for namespace in namespaces or [""] for item in await api.find(LEASE, namespace, MODEL_LABEL)]
    return [
        ModelLease(
            model=item["metadata"]["labels"][MODEL_LABEL],
            namespace=item["metadata"]["namespace"],
            state=_state(item),
            annotations=item["metadata"].get("annotations") or {},
        )
        for item in found
    ]


class KubernetesLease:
    """`ports.Lease` of one model, in the namespace of its traffic."""

    def __init__(
        self,
        client: ApiClient,
        model: str,
        coordinates: Coordinates,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._api = Api(client, sleep)
        self._model = model
        self._coordinates = coordinates
        self._now = now

    async def acquire(self, holder: str, duration: timedelta) -> None:
        def take(lease: Document | None) -> Document:
            self._check_free(lease, holder)
            return self._taken(lease, holder, duration)

        await self._write(take)

    async def renew(self, holder: str) -> None:
        def renewed(lease: Document | None) -> Document:
            held = _state(lease).holder if lease else ""
            if lease is None or held != holder:
                raise Superseded(
                    f"{self._where}: {held or 'nobody'} holds it, not release {holder}; nothing was written"
                )
            return {**lease, "spec": {**lease["spec"], "renewTime": self._time()}}

        await self._write(renewed)

    async def release(self, holder: str) -> None:
        def given_up(lease: Document | None) -> Document | None:
            if lease is None or _state(lease).holder != holder:
                return None
            spec = {key: value for key, value in lease["spec"].items() if key not in ("holderIdentity", "acquireTime")}
            return {**lease, "spec": {**spec, "renewTime": self._time()}}

        await self._write(given_up)

    async def read(self) -> LeaseState | None:
        lease = await self._read()
        return None if lease is None else _state(lease)

    async def _write(self, change: Callable[[Document | None], Document | None]) -> None:
        """Optimistic: what `change` makes of the Lease as it was read; read and decided anew if another was faster."""
        for attempt in range(1, ATTEMPTS + 1):
            lease = await self._read()
            changed = change(lease)
            if changed is None:
                return
            try:
                write = self._api.create if lease is None else self._api.replace
                await write(LEASE, self._coordinates.namespace, changed)
                return
            except Conflict:
                if attempt == ATTEMPTS:
                    raise

    def _check_free(self, lease: Document | None, holder: str) -> None:
        if lease is None:
            return
        state = _state(lease)
        renewed = lease["spec"].get("renewTime")
        if state.holder in ("", holder) or renewed is None:
            return
        until = datetime.fromisoformat(renewed) + state.duration
        if self._now() < until:
            raise LeaseHeld(
                f"{self._where}: release {state.holder} holds it until {until:%Y-%m-%d %H:%M:%S} UTC unless it renews; "
                "wait until that release is settled, or mark its run failed"
            )

    def _taken(self, lease: Document | None, holder: str, duration: timedelta) -> Document:
        before: Mapping[str, Any] = lease["spec"] if lease else {}
        same = before.get("holderIdentity") == holder
        metadata: Mapping[str, Any] = lease["metadata"] if lease else {"name": lease_name(self._model)}
        where = {key: getattr(self._coordinates, field) for field, key in _WHERE.items()}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                **metadata,
                "labels": {**metadata.get("labels", {}), MODEL_LABEL: self._model},
                "annotations": {**metadata.get("annotations", {}), **where},
            },
            "spec": {
                **before,
                "holderIdentity": holder,
                "leaseDurationSeconds": ceil(duration.total_seconds()),
                "acquireTime": before["acquireTime"] if same and "acquireTime" in before else self._time(),
                "renewTime": self._time(),
                "leaseTransitions": before.get("leaseTransitions", 0) + (lease is not None and not same),
            },
        }

    async def _read(self) -> Document | None:
        try:
            return await self._api.get(LEASE, self._coordinates.namespace, lease_name(self._model))
        except Missing:
            return None

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime(_MICRO_TIME)

    @property
    def _where(self) -> str:
        return f"Lease {self._coordinates.namespace}/{lease_name(self._model)}"


def _state(lease: Document) -> LeaseState:
    spec = lease.get("spec") or {}
    return LeaseState(
        holder=spec.get("holderIdentity") or "",
        duration=timedelta(seconds=spec.get("leaseDurationSeconds") or 0),
        renewals=lease["metadata"]["resourceVersion"],
    )
