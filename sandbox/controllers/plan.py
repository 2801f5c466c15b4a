"""What a controller wants: writes to the cluster, and when to look again although nothing changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.kubernetes_api import Object, Resource

DEPLOYMENTS = Resource("apps/v1", "deployments")
REPLICA_SETS = Resource("apps/v1", "replicasets")


@dataclass(frozen=True)
class Create:
    """Create an object."""

    resource: Resource
    body: Object


@dataclass(frozen=True)
class Patch:
    """Merge-patch an object (or its status), made for the resourceVersion that the controller saw."""

    resource: Resource
    item: Object
    changes: Object
    subresource: str = ""


@dataclass(frozen=True)
class Delete:
    """Delete exactly this object; that it is gone already is as good."""

    resource: Resource
    item: Object


Write = Create | Patch | Delete


@dataclass(frozen=True)
class Plan:
    """The writes in their order, and how many seconds from now time alone will change the answer (None: never)."""

    writes: tuple[Write, ...] = ()
    again_seconds: float | None = None


def timestamp(now: datetime) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def earliest(*seconds: float | None) -> float | None:
    """The smallest that is given."""
    return min((one for one in seconds if one is not None), default=None)


def owner_reference(owner: Object, api_version: str, kind: str) -> Object:
    """The reference by which `owner` controls another object."""
    metadata = owner["metadata"]
    identity = {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return {**identity, "controller": True, "blockOwnerDeletion": True}


def controller_uid(item: Object) -> str | None:
    """The uid of the object that controls this one, or None."""
    references = item["metadata"].get("ownerReferences", ())
    return next((one["uid"] for one in references if one.get("controller")), None)


def adopt(owner: Object, kind: str, resource: Resource, orphans: Iterable[Object]) -> tuple[Write, ...]:
    """Take over what nobody controls and the owner's selector matches: what an earlier owner left behind."""
    labels = owner["spec"]["selector"].get("matchLabels") or {}
    reference = owner_reference(owner, "apps/v1", kind)
    return tuple(
        Patch(
            resource, one, {"metadata": {"ownerReferences": [*one["metadata"].get("ownerReferences", ()), reference]}}
        )
        for one in orphans
        if labels and labels.items() <= (one["metadata"].get("labels") or {}).items()
    )


def is_deleting(item: Object) -> bool:
    """Whether the object is on its way out."""
    return "deletionTimestamp" in item["metadata"]


def is_active(pod: Object) -> bool:
    """Whether the pod counts as a replica: not being deleted, not ended."""
    return not is_deleting(pod) and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def condition(item: Object, type_: str) -> Object | None:
    """The condition of that type in the object's status, or None."""
    return next((one for one in item.get("status", {}).get("conditions") or () if one["type"] == type_), None)


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is true."""
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def seconds_until_available(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """0 when the pod has been ready for long enough, None when it is not ready."""
    found = condition(pod, "Ready")
    if found is None or found["status"] != "True":
        return None
    if not min_ready_seconds or "lastTransitionTime" not in found:
        return 0.0
    since = datetime.fromisoformat(found["lastTransitionTime"])
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def status_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object | None:
    """The merge patch that turns one status into the other (null removes), or None when they are equal."""
    if old == new:
        return None
    removed = {key: None for key in old if key not in new}
    return {**removed, **{key: value for key, value in new.items() if old.get(key) != value}}
