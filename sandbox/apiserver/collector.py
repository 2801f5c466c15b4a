"""Garbage collection whenever a change can have made garbage, and the namespaces that exist from the start."""

from sandbox.apiserver import garbage
from sandbox.apiserver.kinds import NAMESPACE
from sandbox.apiserver.registry import Options, Registry

_IDLE_SECONDS = 3600.0
_FIRST_NAMESPACES = ("default", "kube-system")


def ensure_default_namespace(registry: Registry) -> None:
    """The namespaces that every cluster has."""
    for name in _FIRST_NAMESPACES:
        if registry.store.get(NAMESPACE, None, name) is None:
            registry.create(NAMESPACE, "v1", None, {"metadata": {"name": name}}, Options())


async def run(registry: Registry) -> None:
    """Collect until the server stops. Starts with a full round: a restart may have interrupted one."""
    store, cursor, due = registry.store, registry.store.version, True
    while not store.closing:
        while due:
            due = registry.collect()
        await store.changed_after(cursor, _IDLE_SECONDS)
        fresh = store.events_after(cursor)
        cursor = store.version
        due = any(event.type == "DELETED" or garbage.is_concerned(event.item) for event in fresh)
