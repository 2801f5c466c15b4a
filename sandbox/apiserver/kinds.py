"""The resource kinds that the server knows, as data: everything generic about a kind is a field of its row here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object (or any JSON object) as it goes over the wire."""


@dataclass(frozen=True)
class Kind:
    """One resource kind. `versions` share one storage; the first is the preferred one, in which objects are stored."""

    group: str
    versions: tuple[str, ...]
    plural: str
    name: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    definition: str = ""
    """Name of its OpenAPI definition."""
    custom: bool = False
    """Defined by a CustomResourceDefinition rather than built in."""
    has_generation: bool = False
    needs_resource_version: bool = False
    """An update must name the resourceVersion that it was made for."""
    returns_deleted: bool = False
    """A deletion answers with the object instead of a Status."""
    not_enforced: str = ""
    """Why the object has no effect here, for the kinds that are stored only."""
    fields: tuple[str, ...] = ()
    """Fields that a fieldSelector may name, besides metadata.name and metadata.namespace."""

    @property
    def singular(self) -> str:
        """The lower-case name, as kubectl types it."""
        return self.name.lower()

    @property
    def api_version(self) -> str:
        """`group/version` of the stored form."""
        return group_version(self.group, self.versions[0])

    @property
    def group_resource(self) -> str:
        """`plural.group`, the name that messages use."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource only."""
        return "status" in self.subresources

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be done with the kind, in the order in which discovery lists it."""
        if self.custom:
            return ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
        collection = () if self is NAMESPACE else ("deletecollection",)
        return ("create", "delete", *collection, "get", "list", "patch", "update", "watch")

    @property
    def patch_types(self) -> tuple[str, ...]:
        """Content types of PATCH that a real API server takes for this kind."""
        strategic = () if self.custom else ("application/strategic-merge-patch+json",)
        return (
            "application/json-patch+json",
            "application/merge-patch+json",
            *strategic,
            "application/apply-patch+yaml",
        )


def group_version(group: str, version: str) -> str:
    """`v1` for the core group, `group/version` for the others."""
    return f"{group}/{version}" if group else version


def _core(plural: str, name: str, **more: Any) -> Kind:
    return Kind("", ("v1",), plural, name, definition=f"io.k8s.api.core.v1.{name}", **more)


def _builtin(group: str, version: str, plural: str, name: str, **more: Any) -> Kind:
    package = group.removesuffix(".k8s.io")
    return Kind(group, (version,), plural, name, definition=f"io.k8s.api.{package}.{version}.{name}", **more)


def _istio(area: str, versions: tuple[str, ...], plural: str, name: str, short: str, not_enforced: str = "") -> Kind:
    return Kind(
        f"{area}.istio.io",
        versions,
        plural,
        name,
        definition=f"io.istio.{area}.v1.{name}",
        custom=True,
        short_names=(short,),
        categories=("istio-io", f"{area}-istio-io"),
        subresources=("status",),
        has_generation=True,
        needs_resource_version=True,
        not_enforced=not_enforced,
    )


_EVENT_FIELDS = (
    *(f"involvedObject.{key}" for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
    *("involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
)
_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP")
_NO_MESH = "there are no sidecars to enforce it"
_ISTIO_NETWORKING = ("v1", "v1beta1", "v1alpha3")
_ISTIO_SECURITY = ("v1", "v1beta1")

NAMESPACE = _core(
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    subresources=("status",),
    fields=("status.phase",),
    returns_deleted=True,
)
POD = _core(
    "pods",
    "Pod",
    short_names=("po",),
    categories=("all",),
    subresources=("binding", "log", "status"),
    has_generation=True,
    returns_deleted=True,
    fields=_POD_FIELDS,
)
NODE = _core("nodes", "Node", namespaced=False, short_names=("no",), subresources=("status",))
EVENT = _core("events", "Event", short_names=("ev",), fields=_EVENT_FIELDS)
SERVICE = _core(
    "services", "Service", short_names=("svc",), categories=("all",), subresources=("status",), returns_deleted=True
)
DEPLOYMENT = _builtin(
    "apps",
    "v1",
    "deployments",
    "Deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=("scale", "status"),
    has_generation=True,
)
REPLICA_SET = _builtin(
    "apps",
    "v1",
    "replicasets",
    "ReplicaSet",
    short_names=("rs",),
    categories=("all",),
    subresources=("scale", "status"),
    has_generation=True,
    fields=("status.replicas",),
)
LEASE = _builtin("coordination.k8s.io", "v1", "leases", "Lease", needs_resource_version=True)

KINDS: tuple[Kind, ...] = (
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    EVENT,
    NAMESPACE,
    NODE,
    POD,
    _core("secrets", "Secret", fields=("type",)),
    _core("serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True),
    SERVICE,
    DEPLOYMENT,
    REPLICA_SET,
    _builtin(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        short_names=("hpa",),
        categories=("all",),
        subresources=("status",),
        not_enforced="nothing scales by it",
    ),
    _builtin(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short_names=("pdb",),
        subresources=("status",),
        not_enforced="nothing is evicted here",
        has_generation=True,
    ),
    LEASE,
    _builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True),
    _istio("networking", _ISTIO_NETWORKING, "virtualservices", "VirtualService", "vs"),
    _istio("networking", _ISTIO_NETWORKING, "gateways", "Gateway", "gw"),
    _istio("networking", _ISTIO_NETWORKING, "destinationrules", "DestinationRule", "dr"),
    _istio("security", _ISTIO_SECURITY, "peerauthentications", "PeerAuthentication", "pa", _NO_MESH),
    _istio("security", _ISTIO_SECURITY, "authorizationpolicies", "AuthorizationPolicy", "ap", _NO_MESH),
)


def groups() -> dict[str, tuple[str, ...]]:
    """Every named API group with its versions, preferred first. The core group is not among them."""
    found: dict[str, tuple[str, ...]] = {kind.group: kind.versions for kind in KINDS if kind.group}
    return {**found, "authorization.k8s.io": ("v1",)}


def kinds_of(group: str, version: str) -> tuple[Kind, ...]:
    """The kinds of one group version."""
    return tuple(kind for kind in KINDS if kind.group == group and version in kind.versions)


def find(group: str, version: str, plural: str) -> Kind | None:
    """The kind that the path names, or None."""
    return _first(kind for kind in kinds_of(group, version) if kind.plural == plural)


def by_owner_reference(api_version: str, name: str) -> Kind | None:
    """The kind that an ownerReference or a storage key names, or None when the server does not know it."""
    return _first(
        kind
        for kind in KINDS
        if kind.name == name and api_version in [group_version(kind.group, version) for version in kind.versions]
    )


def _first(kinds: Iterable[Kind]) -> Kind | None:
    return next(iter(kinds), None)
