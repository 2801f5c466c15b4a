"""Discovery: which groups, versions and resources there are, in the plain and in the aggregated form."""

import hashlib

from sandbox.apiserver.kinds import Kind, Object, group_version, groups, kinds_of

_SUBRESOURCE_VERBS = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "log": ["get"],
    "binding": ["create"],
}
_REVIEW = "selfsubjectaccessreviews"

VERSION: Object = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.0+sluice-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}


def core_versions(address: str) -> Object:
    """`/api`."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}


def group_list() -> Object:
    """`/apis`."""
    listed = [_group(name, versions) for name, versions in groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(name: str) -> Object | None:
    """`/apis/GROUP`, or None when there is no such group."""
    versions = groups().get(name)
    return None if versions is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: tuple[str, ...]) -> Object:
    listed = [{"groupVersion": group_version(name, version), "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(group_name: str, version: str) -> Object | None:
    """`/api/v1` or `/apis/GROUP/VERSION`, or None when there is no such group version."""
    if group_name and version not in groups().get(group_name, ()):
        return None
    resources = [resource for kind in kinds_of(group_name, version) for resource in _resources(kind)]
    if group_name == "authorization.k8s.io":
        resources = [_resource(_REVIEW, "SelfSubjectAccessReview", False, ["create"])]
    header = {"kind": "APIResourceList", "groupVersion": group_version(group_name, version), "resources": resources}
    return {**header, "apiVersion": "v1"} if group_name else header


def _resources(kind: Kind) -> list[Object]:
    main = _resource(kind.plural, kind.name, kind.namespaced, list(kind.verbs), singular=kind.singular)
    main["storageVersionHash"] = hashlib.sha256(kind.group_resource.encode()).hexdigest()[:11] + "="
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    return [main, *[_subresource(kind, name) for name in kind.subresources]]


def _resource(plural: str, kind: str, namespaced: bool, verbs: list[str], singular: str = "") -> Object:
    return {"name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs}


def _subresource(kind: Kind, name: str) -> Object:
    shown = _resource(f"{kind.plural}/{name}", _response_kind(kind, name), kind.namespaced, _SUBRESOURCE_VERBS[name])
    return {**shown, "group": "autoscaling", "version": "v1"} if name == "scale" else shown


def _response_kind(kind: Kind, subresource: str) -> str:
    return {"scale": "Scale", "binding": "Binding"}.get(subresource, kind.name)


def aggregated(core: bool, version: str) -> Object:
    """`/api` (core) or `/apis` as an APIGroupDiscoveryList of the given version."""
    found = {"": ("v1",)} if core else groups()
    items = [
        {"metadata": {"name": name} if name else {}, "versions": [_aggregated_version(name, one) for one in versions]}
        for name, versions in found.items()
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_version(name: str, version: str) -> Object:
    resources = [_aggregated_resource(kind, version) for kind in kinds_of(name, version)]
    if name == "authorization.k8s.io":
        resources = [_aggregated(_REVIEW, "SelfSubjectAccessReview", "Cluster", ["create"])]
    return {"version": version, "freshness": "Current", "resources": resources}


def _aggregated(plural: str, kind: str, scope: str, verbs: list[str]) -> Object:
    response = {"group": "", "version": "", "kind": kind}
    return {
        "resource": plural,
        "responseKind": response,
        "scope": scope,
        "singularResource": kind.lower(),
        "verbs": verbs,
    }


def _aggregated_resource(kind: Kind, version: str) -> Object:
    shown = _aggregated(kind.plural, kind.name, "Namespaced" if kind.namespaced else "Cluster", list(kind.verbs))
    if kind.custom:
        shown["responseKind"] = {"group": kind.group, "version": version, "kind": kind.name}
    if kind.short_names:
        shown["shortNames"] = list(kind.short_names)
    if kind.categories:
        shown["categories"] = list(kind.categories)
    if kind.subresources:
        shown["subresources"] = [
            _aggregated_subresource(kind, name, shown["responseKind"]) for name in kind.subresources
        ]
    return shown


def _aggregated_subresource(kind: Kind, name: str, response: Object) -> Object:
    other = {"group": "autoscaling" if name == "scale" else "", "version": "v1" if name == "scale" else ""}
    shown = {**other, "kind": _response_kind(kind, name)} if name in ("scale", "binding") else response
    return {"subresource": name, "responseKind": shown, "verbs": _SUBRESOURCE_VERBS[name]}
