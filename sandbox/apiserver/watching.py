"""Watches: the events of one selection, from a resourceVersion on, until time is up."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandbox.apiserver import status
from sandbox.apiserver.kinds import Kind, Object, group_version
from sandbox.apiserver.selectors import Predicate
from sandbox.apiserver.storage import Event, Store

BOOKMARK_SECONDS = 60.0
_FUTURE_SECONDS = 3.0


@dataclass(frozen=True)
class Watch:
    """What a client watches. `since` None starts with what exists; `initial_end` asks for a bookmark after that."""

    kind: Kind
    version: str
    selects: Predicate
    since: int | None
    timeout_seconds: float
    bookmarks: bool = False
    initial_end: bool = False


async def events(store: Store, watch: Watch) -> AsyncIterator[tuple[str, Object]]:
    """The (type, object) pairs of the watch, in the order of the writes; an ERROR is the last one."""
    deadline = time.monotonic() + watch.timeout_seconds
    if watch.since is None:
        cursor = store.version
        for item in store.all_of(watch.kind):
            if watch.selects(item):
                yield "ADDED", item
        if watch.initial_end:
            yield "BOOKMARK", _bookmark(watch, cursor, ended=True)
    else:
        cursor = watch.since
    async for event in _from(store, watch, cursor, deadline):
        yield event


async def _from(store: Store, watch: Watch, cursor: int, deadline: float) -> AsyncIterator[tuple[str, Object]]:
    await _reach(store, cursor, min(deadline, time.monotonic() + _FUTURE_SECONDS))
    next_bookmark = time.monotonic() + BOOKMARK_SECONDS
    while (left := deadline - time.monotonic()) > 0 and not store.closing:
        if problem := _impossible(store, cursor):
            yield "ERROR", problem.body
            return
        for event in store.events_after(cursor):
            cursor = event.version
            if event.kind is watch.kind and (shown := as_seen(event, watch.selects)):
                yield shown
        if watch.bookmarks and time.monotonic() >= next_bookmark:
            next_bookmark = time.monotonic() + BOOKMARK_SECONDS
            yield "BOOKMARK", _bookmark(watch, cursor)
        await store.changed_after(cursor, min(left, BOOKMARK_SECONDS))


async def _reach(store: Store, version: int, deadline: float) -> None:
    """Wait for a resourceVersion that this server has not reached yet, as a real one does for a lagging cache."""
    while store.version < version and not store.closing and (left := deadline - time.monotonic()) > 0:
        await store.changed_after(store.version, left)


def _impossible(store: Store, cursor: int) -> status.ApiError | None:
    if cursor > store.version:
        return status.too_large_resource_version(cursor, store.version)
    if cursor < store.compacted:
        return status.expired(cursor, store.compacted)
    return None


def as_seen(event: Event, selects: Predicate) -> tuple[str, Object] | None:
    """The event as a watcher of a selection sees it: entering is ADDED, leaving is DELETED with the state before."""
    before = event.previous is not None and selects(event.previous)
    now = event.type != "DELETED" and selects(event.item)
    if before and now:
        return "MODIFIED", event.item
    if now:
        return "ADDED", event.item
    if not before or event.previous is None:
        return None
    last = event.item if event.type == "DELETED" else event.previous
    version = {**last["metadata"], "resourceVersion": str(event.version)}
    return "DELETED", {**last, "metadata": version}


def _bookmark(watch: Watch, version: int, ended: bool = False) -> Object:
    metadata: Object = {"resourceVersion": str(version)}
    if ended:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": watch.kind.name, "apiVersion": group_version(watch.kind.group, watch.version), "metadata": metadata}
