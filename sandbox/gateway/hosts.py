"""Names: a host as Istio resolves it, and an Envoy cluster as Istio names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERVICE_SUFFIX = "svc.cluster.local"


def full_host(host: str, namespace: str) -> str:
    """A short service name means the service in the object's own namespace; a name with a dot is taken as it is."""
    return host if "." in host or host == "*" else f"{host}.{namespace}.{SERVICE_SUFFIX}"


def service_host(service: Mapping[str, Any]) -> str:
    metadata = service["metadata"]
    return f"{metadata['name']}.{metadata['namespace']}.{SERVICE_SUFFIX}"


def cluster_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def host_matches(pattern: str, host: str) -> bool:
    """Whether a Gateway's host (`*`, `*.example.com`, `ns/host`) covers `host`."""
    pattern = pattern.rpartition("/")[2]
    return pattern == "*" or pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:]))
