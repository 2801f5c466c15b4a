"""What a request path names: group, version, namespace, kind, name, subresource."""

from dataclasses import dataclass

from sandbox.apiserver.kinds import NAMESPACE, Kind, find


@dataclass(frozen=True)
class Target:
    """The resource that a path names. `name` is empty for a collection, `namespace` None for all of them."""

    kind: Kind
    version: str
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


def parse(path: str) -> Target | None:
    """The target of `/api/v1/…` or `/apis/GROUP/VERSION/…`, or None when no known resource has that path."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        return _resource("", parts[1], parts[2:])
    if parts[0] == "apis" and len(parts) > 3:
        return _resource(parts[1], parts[2], parts[3:])
    return None


def _resource(group: str, version: str, parts: list[str]) -> Target | None:
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in NAMESPACE.subresources:
        return _target(group, version, parts[1], parts[2:])
    return _target(group, version, None, parts)


def _target(group: str, version: str, namespace: str | None, parts: list[str]) -> Target | None:
    kind = find(group, version, parts[0])
    name, subresource = [*parts[1:], "", ""][:2]
    if kind is None or len(parts) > 3 or (namespace is not None and not kind.namespaced):
        return None
    if (subresource and subresource not in kind.subresources) or (name and kind.namespaced and namespace is None):
        return None
    return Target(kind, version, namespace, name, subresource)
