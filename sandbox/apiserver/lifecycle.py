"""The life of an object: what create, update and delete write into it. Pure: time and ids come in."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta

from sandbox.apiserver.kinds import NAMESPACE, NODE, POD, Kind, Object
from sandbox.apiserver.status import modified

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

_SERVER_OWNED = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "uid")
_EMPTY_METADATA = ("annotations", "finalizers", "labels", "managedFields", "ownerReferences")
_DEFAULT_GRACE_SECONDS = 30


def timestamp(now: datetime) -> str:
    """The time as Kubernetes writes it: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_nulls(value: object) -> object:
    """Typed kinds do not distinguish null from absent."""
    if isinstance(value, dict):
        return {key: without_nulls(element) for key, element in value.items() if element is not None}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def tidy_metadata(metadata: Mapping[str, object]) -> Object:
    """Metadata without nulls and without empty collections; managedFields are not part of the subset."""
    kept = {key: value for key, value in metadata.items() if value is not None and key != "managedFields"}
    return {key: value for key, value in kept.items() if value or key not in _EMPTY_METADATA}


def created(kind: Kind, item: Object, *, namespace: str | None, now: datetime, uid: str) -> Object:
    """A new object with the metadata of its birth. Its resourceVersion comes with the write."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _SERVER_OWNED}
    metadata.pop("resourceVersion", None)
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata |= {"creationTimestamp": timestamp(now), "uid": uid}
    if kind.has_generation:
        metadata["generation"] = 1
    fresh = {**item, "metadata": metadata}
    if kind.has_status and kind is not NODE:  # a node registers itself together with its status
        fresh.pop("status", None)
    return fresh


def updated(kind: Kind, old: Object, new: Object, subresource: str = "") -> Object:
    """`new` with everything that this write may not change taken from `old`; equal to `old` when nothing changed.

    Raises:
        ApiError: 409 when `new` was made for another resourceVersion.
    """
    before, after = old["metadata"], new["metadata"]
    if after.get("resourceVersion") not in (None, "", before["resourceVersion"]):
        raise modified(kind, before["name"])
    if subresource == "status":
        return _with_status(kind, old, new)
    kept = {key: before[key] for key in ("name", "namespace", "generateName", "resourceVersion") if key in before}
    kept |= {key: before[key] for key in _SERVER_OWNED if key in before}
    merged = {**new, "metadata": tidy_metadata({**_writable(after), **kept})}
    if kind.has_status:
        merged = _taking(merged, old, "status")
    if "deletionTimestamp" in before:
        merged["metadata"] = _no_new_finalizers(before, merged["metadata"])
    if kind.has_generation and _specified(merged) != _specified(old):
        merged["metadata"]["generation"] = before.get("generation", 0) + 1
    return merged


def _writable(metadata: Object) -> Object:
    return {key: value for key, value in metadata.items() if key not in (*_SERVER_OWNED, "resourceVersion")}


def _with_status(kind: Kind, old: Object, new: Object) -> Object:
    """A status write leaves the specification alone; controllers of built-in kinds may set annotations with it."""
    merged = _taking(dict(old), new, "status")
    if not kind.custom and "annotations" in new["metadata"]:
        metadata = {**old["metadata"], "annotations": new["metadata"]["annotations"]}
        merged["metadata"] = tidy_metadata(metadata)
    return merged


def _taking(item: Object, source: Object, key: str) -> Object:
    rest = {name: value for name, value in item.items() if name != key}
    return {**rest, key: source[key]} if key in source else rest


def _specified(item: Object) -> Object:
    return {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}


def _no_new_finalizers(before: Object, after: Object) -> Object:
    allowed = before.get("finalizers", [])
    return tidy_metadata({**after, "finalizers": [name for name in after.get("finalizers", []) if name in allowed]})


def is_finished(item: Object) -> bool:
    """Being deleted, with nobody left to wait for; a namespace waits until its content is gone."""
    metadata = item["metadata"]
    waiting = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") or item["kind"] == NAMESPACE.name
    return "deletionTimestamp" in metadata and not waiting


def marked_for_deletion(kind: Kind, item: Object, *, now: datetime, policy: str, grace_seconds: int | None) -> Object:
    """The object as a deletion leaves it; `is_finished` says whether it can go at once.

    Foreground and Orphan add a finalizer that the garbage collector removes. A pod on a node waits for the node, which
    deletes it again with no grace when its containers have ended. A namespace waits for its content.
    """
    metadata = deepcopy(item["metadata"])
    already = "deletionTimestamp" in metadata
    seconds = _grace(kind, item, grace_seconds)
    if already and seconds >= metadata.get("deletionGracePeriodSeconds", 0):
        return item
    finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
    if finalizer and not already:
        metadata["finalizers"] = [*metadata.get("finalizers", []), finalizer]
    if not already or seconds < metadata["deletionGracePeriodSeconds"]:
        metadata["deletionTimestamp"] = timestamp(now + timedelta(seconds=seconds))
    if kind is NAMESPACE:
        return {**item, "metadata": metadata, "status": {**item.get("status", {}), "phase": "Terminating"}}
    metadata["deletionGracePeriodSeconds"] = seconds
    if kind.has_generation and not already:
        metadata["generation"] = metadata.get("generation", 0) + 1
    return {**item, "metadata": metadata}


def _grace(kind: Kind, item: Object, requested: int | None) -> int:
    if kind is not POD:
        return 0
    spec, phase = item.get("spec", {}), item.get("status", {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    default = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
    return int(default if requested is None else requested)
