"""Garbage collection as a pure function: objects in, what has to be done next out.

Dependents go when all their owners are gone; foreground deletion holds the owner until its dependents are gone;
orphaning cuts the dependents loose; a namespace that is being deleted takes its content with it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.apiserver.kinds import EVENT, NAMESPACE, Kind, Object, by_owner_reference
from sandbox.apiserver.lifecycle import FOREGROUND, ORPHAN, timestamp

EVENT_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class Step:
    """One thing to do to one object."""

    verb: str
    """One of: delete, delete foreground, drop finalizer, drop owner, finish namespace."""
    kind: Kind
    namespace: str | None
    name: str
    argument: str = ""
    """The finalizer to drop, or the uid of the owner to drop."""


def next_steps(objects: Iterable[tuple[Kind, Object]]) -> list[Step]:
    """What can be done now; doing it may make more possible, so ask again after each round."""
    everything = list(objects)
    by_uid = {item["metadata"]["uid"]: item for _, item in everything}
    dependents: dict[str, list[tuple[Kind, Object]]] = defaultdict(list)
    content: dict[str, list[tuple[Kind, Object]]] = defaultdict(list)
    for kind, item in everything:
        content[item["metadata"].get("namespace", "")].append((kind, item))
        for reference in _owners(item):
            dependents[reference["uid"]].append((kind, item))
    steps: list[Step] = []
    for kind, item in everything:
        steps.extend(_as_dependent(kind, item, by_uid, dependents))
        steps.extend(_as_owner(kind, item, dependents[item["metadata"]["uid"]]))
        if kind is NAMESPACE and _is_deleting(item):
            steps.extend(_as_namespace(item, content[item["metadata"]["name"]]))
    return steps


def expired_events(events: Iterable[Object], now: datetime) -> list[Step]:
    """Events are news, not state: they go after an hour, as in a real API server."""
    oldest = timestamp(now - EVENT_LIFETIME)
    return [_step("delete", EVENT, item) for item in events if item["metadata"]["creationTimestamp"] < oldest]


def is_due(type_: str, item: Object, previous: Object | None) -> bool:
    """Whether this change of an object can have made garbage: it went, it is to go, or it has other owners."""
    owners_before = _owners(previous) if previous else []
    return type_ == "DELETED" or _is_deleting(item) or _owners(item) != owners_before


def _step(verb: str, kind: Kind, item: Object, argument: str = "") -> Step:
    metadata = item["metadata"]
    return Step(verb, kind, metadata.get("namespace"), metadata["name"], argument)


def _owners(item: Object) -> list[Object]:
    found: list[Object] = item["metadata"].get("ownerReferences", [])
    return found


def _is_deleting(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _waits_for_dependents(item: Object | None) -> bool:
    return item is not None and _is_deleting(item) and FOREGROUND in item["metadata"].get("finalizers", [])


def _as_dependent(
    kind: Kind, item: Object, by_uid: Mapping[str, Object], dependents: Mapping[str, list[tuple[Kind, Object]]]
) -> list[Step]:
    owners = _owners(item)
    if not owners or _is_deleting(item):
        return []
    if any(by_owner_reference(owner["apiVersion"], owner["kind"]) is None for owner in owners):
        return []  # an owner of a kind that the server does not know cannot be said to be gone
    present = [by_uid[owner["uid"]] for owner in owners if owner["uid"] in by_uid]
    if any(not _waits_for_dependents(owner) for owner in present):
        return []
    has_dependents = present and dependents.get(item["metadata"]["uid"])
    return [_step("delete foreground" if has_dependents else "delete", kind, item)]


def _as_owner(kind: Kind, item: Object, dependents: list[tuple[Kind, Object]]) -> list[Step]:
    if not _is_deleting(item):
        return []
    finalizers, uid = item["metadata"].get("finalizers", []), item["metadata"]["uid"]
    if FOREGROUND in finalizers and not any(_blocks(dependent, uid) for _, dependent in dependents):
        return [_step("drop finalizer", kind, item, FOREGROUND)]
    if ORPHAN in finalizers:
        cut = [_step("drop owner", its_kind, dependent, uid) for its_kind, dependent in dependents]
        return cut or [_step("drop finalizer", kind, item, ORPHAN)]
    return []


def _blocks(dependent: Object, uid: str) -> bool:
    return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in _owners(dependent))


def _as_namespace(item: Object, content: list[tuple[Kind, Object]]) -> list[Step]:
    if not content:
        return [_step("finish namespace", NAMESPACE, item)]
    return [_step("delete", kind, inside) for kind, inside in content if not _is_deleting(inside)]
