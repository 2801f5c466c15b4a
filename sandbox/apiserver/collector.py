"""Garbage collection whenever a change can have made garbage, and the namespaces that exist from the start."""

import logging
import time

from sandbox.apiserver import garbage
from sandbox.apiserver.kinds import NAMESPACE
from sandbox.apiserver.registry import Options, Registry
from sandbox.apiserver.storage import StorageError

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0
"""How often to look without a reason: Events expire by time alone, and a write may have failed."""
_FIRST_NAMESPACES = ("default", "kube-system")


def ensure_first_namespaces(registry: Registry) -> None:
    """Create the namespaces that every cluster has."""
    for name in _FIRST_NAMESPACES:
        if registry.store.get(NAMESPACE, None, name) is None:
            registry.create(NAMESPACE, "v1", None, {"metadata": {"name": name}}, Options())


async def run(registry: Registry) -> None:
    """Collect until the server stops. Starts with a full round: a restart may have interrupted one."""
    store, cursor, sweep_at = registry.store, registry.store.version, time.monotonic()
    while not store.closing:
        fresh = store.events_after(cursor)
        cursor = store.version
        swept = time.monotonic() >= sweep_at
        if swept or any(garbage.is_due(event.type, event.item, event.previous) for event in fresh):
            _collect(registry)
            sweep_at = time.monotonic() + _SWEEP_SECONDS
        await store.changed_after(cursor, _SWEEP_SECONDS)


def _collect(registry: Registry) -> None:
    """One thing leads to another: as long as a round finds something, there may be more."""
    try:
        while registry.collect():
            pass
    except StorageError as error:
        log.error("garbage collection: %s", error)
