"""OpenAPI v3 documents of the subset, one per group version: what `kubectl apply` and `kubectl explain` read."""

import hashlib
import json
from functools import cache

from starlette.responses import Response

from sandbox.apiserver import status
from sandbox.apiserver.kinds import KINDS, Kind, Object, group_version, kinds_of
from sandbox.apiserver.schema import Definitions

_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
_VERBS = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}


class Documents:
    """The OpenAPI documents of all group versions, rendered on demand."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._render = cache(self._rendered)

    def answer(self, path: str) -> Response | None:
        """The response to a GET below /openapi/, or None when there is no such document.

        Raises:
            ApiError: 406 for version 2, which only has a protobuf form.
        """
        if path == "/openapi/v3":
            return Response(json.dumps(self._index()), headers={"content-type": "text/plain; charset=utf-8"})
        name = path.removeprefix("/openapi/v3/")
        if name in _names():
            return Response(self._render(name), headers={"content-type": "application/json"})
        if path == "/openapi/v2":
            message = "this server speaks a subset of the Kubernetes API without OpenAPI version 2: use /openapi/v3"
            raise status.ApiError(406, "NotAcceptable", message)
        return None

    def _index(self) -> Object:
        return {"paths": {name: {"serverRelativeURL": self._address(name)} for name in sorted(_names())}}

    def _address(self, name: str) -> str:
        return f"/openapi/v3/{name}?hash={hashlib.sha512(self._render(name).encode()).hexdigest().upper()}"

    def _rendered(self, name: str) -> str:
        group, version = _names()[name]
        kinds = kinds_of(group, version)
        schemas = self._definitions.closure([kind.definition for kind in kinds])
        for kind in kinds:
            schemas[kind.definition] = {**schemas[kind.definition], **_identity(kind, version)}
        document = {
            "openapi": "3.0.0",
            "info": {"title": "Sluice sandbox", "version": "v1.36"},
            "paths": {path: item for kind in kinds for path, item in _paths(kind, version)},
            "components": {"schemas": schemas},
        }
        return json.dumps(document).replace('"#/$defs/', '"#/components/schemas/')


@cache
def _names() -> dict[str, tuple[str, str]]:
    pairs = sorted({(kind.group, version) for kind in KINDS for version in kind.versions})
    return {
        ("apis/" if group else "api/") + group_version(group, version): (group, version) for group, version in pairs
    }


def _identity(kind: Kind, version: str) -> Object:
    return {"x-kubernetes-group-version-kind": [_group_version_kind(kind, version)]}


def _group_version_kind(kind: Kind, version: str) -> Object:
    return {"group": kind.group, "version": version, "kind": kind.name}


def _paths(kind: Kind, version: str) -> list[tuple[str, Object]]:
    root = ("/apis/" if kind.group else "/api/") + group_version(kind.group, version)
    collection = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    one = {verb: _operation(kind, version, verb) for verb in _VERBS}
    return [(collection, {"post": _operation(kind, version, "post")}), (f"{collection}/{{name}}", one)]


def _operation(kind: Kind, version: str, verb: str) -> Object:
    schema = {"$ref": f"#/components/schemas/{kind.definition}"}
    operation: Object = {
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": _group_version_kind(kind, version),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
    }
    if verb in ("post", "put", "patch"):
        operation["parameters"] = [_parameter(name) for name in _WRITE_PARAMETERS]
        types = [one for one in kind.patch_types if "apply" not in one] if verb == "patch" else ["application/json"]
        operation["requestBody"] = {"content": {one: {"schema": schema if verb != "patch" else {}} for one in types}}
    return operation


def _parameter(name: str) -> Object:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
