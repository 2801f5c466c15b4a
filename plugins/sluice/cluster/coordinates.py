"""Where a model's traffic is: the names of its objects in the cluster, and how Istio compares host names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
"""A Kubernetes object as JSON has it; never changed in place."""
Operation = dict[str, Any]
"""One operation of a JSON patch (RFC 6902)."""

SUBSET = "v-"
"""Prefix of the subsets that releases own; a version's subset is `v-<version>`."""


@dataclass(frozen=True)
class Coordinates:
    """One model's objects."""

    namespace: str
    virtual_service: str
    destination_rule: str
    host: str
    """The Service's name, short or fully qualified, as destinations name it."""
    route: str = "primary"
    """Name of the HTTP route whose destinations a release owns."""

    def is_host(self, other: str) -> bool:
        """Whether `other` means the model's Service; Istio completes a name without dots, and no other."""
        return _qualified(self.host, self.namespace) == _qualified(other, self.namespace)

    @property
    def where(self) -> str:
        """The VirtualService, as messages name it."""
        return f"VirtualService {self.namespace}/{self.virtual_service}"


def subset(version: str) -> str:
    return SUBSET + version


def version_of(subset: str) -> str | None:
    """The version of a subset's name; None if releases do not own that subset."""
    return subset.removeprefix(SUBSET) if subset.startswith(SUBSET) and subset != SUBSET else None


def _qualified(host: str, namespace: str) -> str:
    return host if "." in host else f"{host}.{namespace}.svc.cluster.local"
