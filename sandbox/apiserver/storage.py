"""Objects and recent events: held in memory for reading, written through to SQLite so that a restart loses nothing.

Stored objects are never changed in place; every write stores a new one under the next resourceVersion.
"""

import asyncio
import contextlib
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.apiserver.kinds import KINDS, Kind, Object

RETAINED_EVENTS = 4096
"""How many events a watch can look back; older ones answer 410."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT, namespace TEXT, name TEXT, item TEXT NOT NULL, PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    version INTEGER PRIMARY KEY, type TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL, previous TEXT
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('resourceVersion', 1), ('compacted', 0);
"""


class StorageError(Exception):
    """The database file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Event:
    """One change of one object: `previous` is its state before, None when it was created."""

    version: int
    type: str
    kind: Kind
    item: Object
    previous: Object | None


class Store:
    """All objects of the cluster and its recent events, under one counter of resourceVersions."""

    def __init__(self, path: Path, retained_events: int = RETAINED_EVENTS) -> None:
        self._connection = _open(path)
        self._retained = retained_events
        self._by_name = {kind.group_resource: kind for kind in KINDS}
        counters = dict(self._connection.execute("SELECT name, value FROM counters"))
        self.version: int = counters["resourceVersion"]
        """The resourceVersion of the last write."""
        self.compacted: int = counters["compacted"]
        """Events up to this resourceVersion are no longer kept."""
        self._objects: dict[str, dict[tuple[str, str], Object]] = {name: {} for name in self._by_name}
        self._events: list[Event] = []
        self._changed = asyncio.Event()
        self.closing = False
        """Set when the server stops; whoever waits for changes returns."""
        self._load()

    def _load(self) -> None:
        for kind, namespace, name, item in self._connection.execute("SELECT * FROM objects"):
            self._objects[kind][namespace, name] = json.loads(item)
        rows = self._connection.execute("SELECT version, type, kind, item, previous FROM events ORDER BY version")
        for version, type_, kind, item, previous in rows:
            before = json.loads(previous) if previous else None
            self._events.append(Event(version, type_, self._by_name[kind], json.loads(item), before))

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        return self._objects[kind.group_resource].get((namespace or "", name))

    def all_of(self, kind: Kind) -> list[Object]:
        """All objects of a kind, ordered by namespace and name."""
        return [item for _, item in sorted(self._objects[kind.group_resource].items(), key=lambda entry: entry[0])]

    def everything(self) -> Iterator[tuple[Kind, Object]]:
        """All objects of all kinds."""
        for name, items in self._objects.items():
            for item in items.values():
                yield self._by_name[name], item

    def put(self, kind: Kind, item: Object) -> Object:
        """Write the object under the next resourceVersion; returns what is stored."""
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self._objects[kind.group_resource].get(key)
        stored = {**item, "metadata": {**metadata, "resourceVersion": str(self.version + 1)}}
        event = Event(self.version + 1, "MODIFIED" if previous else "ADDED", kind, stored, previous)
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (kind.group_resource, *key, json.dumps(stored))
            )
            self._record(event)
        self._objects[kind.group_resource][key] = stored
        self._publish(event)
        return stored

    def remove(self, kind: Kind, item: Object) -> None:
        """Delete the object; `item` is its last state, which the event shows."""
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self._objects[kind.group_resource][key]
        last = {**item, "metadata": {**metadata, "resourceVersion": str(self.version + 1)}}
        event = Event(self.version + 1, "DELETED", kind, last, previous)
        with self._transaction():
            self._connection.execute(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", (kind.group_resource, *key)
            )
            self._record(event)
        del self._objects[kind.group_resource][key]
        self._publish(event)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise StorageError(f"the write was not stored: {error}; is the disk full or the file gone?") from error

    def _record(self, event: Event) -> None:
        previous = json.dumps(event.previous) if event.previous else None
        row = (event.version, event.type, event.kind.group_resource, json.dumps(event.item), previous)
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        compacted = self._to_compact(event)
        self._connection.execute("DELETE FROM events WHERE version <= ?", (compacted,))
        self._connection.execute("UPDATE counters SET value = ? WHERE name = 'resourceVersion'", (event.version,))
        self._connection.execute("UPDATE counters SET value = ? WHERE name = 'compacted'", (compacted,))

    def _to_compact(self, event: Event) -> int:
        return max(self.compacted, event.version - self._retained)

    def _publish(self, event: Event) -> None:
        self.version = event.version
        self.compacted = self._to_compact(event)
        self._events.append(event)
        if len(self._events) > 2 * self._retained:
            self._events = self._events[-self._retained :]
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def events_after(self, version: int) -> list[Event]:
        """The events with a greater resourceVersion, oldest first; complete only from `compacted` on."""
        return self._events[bisect_right(self._events, version, key=lambda event: event.version) :]

    async def changed_after(self, version: int, timeout_seconds: float) -> None:
        """Return when something was written after `version`, the server stops, or the time is over."""
        if self.version > version or self.closing:
            return
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_seconds):
                await changed.wait()
        except TimeoutError:
            return

    def stop_waiting(self) -> None:
        """Let everybody who waits for changes return: the server stops."""
        self.closing = True
        self._wake()

    def close(self) -> None:
        """Close the database file."""
        self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=1)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        remedy = (
            "another API server uses it: stop that one, or give another --database"
            if "locked" in str(error)
            else "give another --database, or remove the file to start with an empty cluster"
        )
        raise StorageError(f"database {path}: {error}; {remedy}") from error
    return connection
