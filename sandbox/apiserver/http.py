"""The HTTP face of the server: one Starlette application that turns requests into verbs of the registry."""

import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox.apiserver import discovery, logs, negotiation, openapi, pagination, paths, status, tables, watching
from sandbox.apiserver.decoding import Decoder
from sandbox.apiserver.kinds import Object, group_version
from sandbox.apiserver.paths import Target
from sandbox.apiserver.registry import Registry, Written, presented, scale_of
from sandbox.apiserver.selectors import Predicate, selection
from sandbox.apiserver.status import ApiError
from sandbox.apiserver.storage import StorageError

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
_NOT_FOUND = "404 page not found\n"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_SUBRESOURCES_LEFT_OUT = (
    "attach",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "portforward",
    "proxy",
    "resize",
    "token",
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def application(registry: Registry, http_client: httpx.AsyncClient) -> Starlette:
    """The ASGI application of the API server. The client is used to read logs from nodes."""
    server = _Server(registry, http_client)
    return Starlette(routes=[Route("/{path:path}", server.answer, methods=_METHODS)])


class _Server:
    def __init__(self, registry: Registry, http_client: httpx.AsyncClient) -> None:
        self._registry = registry
        self._client = http_client
        self._decoder = Decoder(registry.definitions)
        self._documents = openapi.Documents(registry.definitions)

    async def answer(self, request: Request) -> Response:
        try:
            if request.headers.get("authorization"):
                raise status.unauthorized()  # there are no users here, so every token is unknown
            if request.url.path == _REVIEWS and request.method == "POST":
                return await self._review(request)
            target = paths.parse(request.url.path)
            return self._about_server(request) if target is None else await self._on_resource(request, target)
        except ApiError as error:
            return _json(error.body, error.code)
        except StorageError as error:
            return _json(ApiError(500, "InternalError", str(error)).body, 500)

    def _about_server(self, request: Request) -> Response:
        path = request.url.path
        subresource = path.rpartition("/")[2]
        if subresource in _SUBRESOURCES_LEFT_OUT:
            raise status.left_out(f"the subresource {subresource}", "see docs/sandbox.md for what there is")
        found = self._about(request, path)
        if found is None:
            return PlainTextResponse(_NOT_FOUND, 404)
        if request.method not in ("GET", "HEAD") or path == _REVIEWS:
            raise status.method_not_allowed()
        return found

    def _about(self, request: Request, path: str) -> Response | None:
        if path in ("/healthz", "/readyz", "/livez", _REVIEWS):
            return PlainTextResponse("ok")
        if path.startswith("/openapi/"):
            return self._documents.answer(path)
        return self._discovered(request, [part for part in path.split("/") if part])

    def _discovered(self, request: Request, parts: list[str]) -> Response | None:
        form, version = negotiation.wanted_form(request.headers.get("accept", ""))
        match parts:
            case ["version"]:
                return _json(discovery.VERSION)
            case ["api" | "apis"] if form == "APIGroupDiscoveryList":
                kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                return _json(discovery.aggregated(parts == ["api"], version), content_type=kind)
            case ["api"]:
                return _json(discovery.core_versions(request.url.netloc))
            case ["apis"]:
                return _json(discovery.group_list())
            case ["apis", group]:
                return _json_or_none(discovery.group(group))
            case ["api", "v1"]:
                return _json_or_none(discovery.resource_list("", "v1"))
            case ["apis", group, version]:
                return _json_or_none(discovery.resource_list(group, version))
        return None

    async def _on_resource(self, request: Request, target: Target) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if target.subresource == "log" and method == "GET":
            return await self._log(request, target)
        if target.subresource == "binding" and method == "POST":
            return await self._bind(request, target)
        if target.subresource in ("log", "binding"):
            raise status.method_not_allowed()
        if method == "GET":
            return self._read(request, target)
        if method == "DELETE" and not target.subresource and (target.name or "deletecollection" in target.kind.verbs):
            return await self._delete(request, target)
        if method == "POST" and not target.subresource:
            return await self._create(request, target)
        if method in ("PUT", "PATCH") and target.name:
            return await (self._put if method == "PUT" else self._patch)(request, target)
        raise status.method_not_allowed()

    def _read(self, request: Request, target: Target) -> Response:
        query = request.query_params
        if negotiation.flag(query, "watch"):
            return self._watch(request, target)
        if not target.name:
            return self._list(request, target)
        item = self._registry.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return _json(scale_of(item))
        return self._shown(request, target, item)

    def _shown(self, request: Request, target: Target, item: Object, code: int = 200) -> Response:
        shown = presented(item, target.kind, target.version)
        form, version = negotiation.wanted_form(request.headers.get("accept", ""))
        if form == "Table" and item["kind"] == target.kind.name:
            version_of = item["metadata"].get("resourceVersion", "")
            return _json(tables.table(target.kind, [shown], version_of, version, _include(request)), code)
        return _json(shown, code)

    def _list(self, request: Request, target: Target) -> Response:
        kind, query = target.kind, request.query_params
        items = self._registry.select(kind, _selection(request, target))
        limit = negotiation.number(query, "limit") or 0
        items, metadata = pagination.page(items, self._registry.store.version, limit, query.get("continue", ""))
        form, version = negotiation.wanted_form(request.headers.get("accept", ""))
        if form == "Table":
            shown = tables.table(kind, items, metadata["resourceVersion"], version, _include(request))
            return _json({**shown, "metadata": metadata})
        if kind.custom:
            metadata.setdefault("continue", "")
        items = [presented(item, kind, target.version) if kind.custom else _untyped(item) for item in items]
        api_version = group_version(kind.group, target.version)
        return _json({"kind": f"{kind.name}List", "apiVersion": api_version, "metadata": metadata, "items": items})

    def _watch(self, request: Request, target: Target) -> Response:
        query = request.query_params
        since = negotiation.number(query, "resourceVersion") or None
        initial = negotiation.flag(query, "sendInitialEvents")
        watch = watching.Watch(
            kind=target.kind,
            version=target.version,
            selects=_selection(request, target),
            since=None if initial else since,
            timeout_seconds=float(negotiation.number(query, "timeoutSeconds") or random.randint(1800, 3600)),
            bookmarks=negotiation.flag(query, "allowWatchBookmarks"),
            initial_end=initial and negotiation.flag(query, "allowWatchBookmarks"),
        )
        form, version = negotiation.wanted_form(request.headers.get("accept", ""))
        table = tables.rows_for_watch(target.kind, version, _include(request)) if form == "Table" else None

        async def lines() -> AsyncIterator[bytes]:
            async for type_, item in watching.events(self._registry.store, watch):
                shown = item if type_ in ("ERROR", "BOOKMARK") else presented(item, target.kind, target.version)
                if table is not None and type_ != "ERROR":
                    shown = table(shown)
                yield json.dumps({"type": type_, "object": shown}).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/json")

    async def _create(self, request: Request, target: Target) -> Response:
        if target.kind.namespaced and target.namespace is None:
            raise status.method_not_allowed()
        body = await _body(request, target.kind.name)
        options = negotiation.write_options(request.query_params)
        written = self._registry.create(target.kind, target.version, target.namespace, body, options)
        return self._written(request, target, written, 201)

    async def _put(self, request: Request, target: Target) -> Response:
        body = await _body(request, target.kind.name)
        options = negotiation.write_options(request.query_params)
        written = self._registry.update(
            target.kind, target.version, target.namespace, target.name, body, options, target.subresource
        )
        return self._written(request, target, written, 200)

    async def _patch(self, request: Request, target: Target) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type not in target.kind.patch_types:
            raise status.unsupported_media_type(target.kind.patch_types)
        body = negotiation.parse(await request.body(), media_type, "error decoding patch")
        written = self._registry.patch(
            target.kind,
            target.version,
            target.namespace,
            target.name,
            media_type,
            body,
            negotiation.write_options(request.query_params),
            target.subresource,
        )
        return self._written(request, target, written, 200)

    def _written(self, request: Request, target: Target, written: Written, code: int) -> Response:
        response = self._shown(request, target, written.item, code)
        for warning in written.warnings:
            response.headers.append("Warning", f"299 - {json.dumps(warning)}")
        return response

    async def _delete(self, request: Request, target: Target) -> Response:
        raw = await request.body()
        content_type = request.headers.get("content-type", "")
        body = negotiation.parse_body(content_type, raw, "DeleteOptions") if raw else {}
        stated = self._decoder.decoded("DeleteOptions", _DELETE_OPTIONS, {} if body is None else body)
        options = negotiation.delete_options(request.query_params, stated)
        if target.name:
            left = self._registry.delete(target.kind, target.namespace, target.name, options)
            return _json(presented(left, target.kind, target.version) if left["kind"] != "Status" else left)
        chosen = self._registry.select(target.kind, _selection(request, target))
        for item in chosen:
            self._registry.delete(target.kind, item["metadata"].get("namespace"), item["metadata"]["name"], options)
        metadata = {"resourceVersion": str(self._registry.store.version)}
        api_version = group_version(target.kind.group, target.version)
        return _json(
            {"kind": f"{target.kind.name}List", "apiVersion": api_version, "metadata": metadata, "items": chosen}
        )

    async def _bind(self, request: Request, target: Target) -> Response:
        body = await _body(request, "Binding")
        options = negotiation.write_options(request.query_params)
        self._registry.bind(target.namespace or "", target.name, body, options)
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _review(self, request: Request) -> Response:
        """Without RBAC everything is allowed."""
        body = await _body(request, "SelfSubjectAccessReview")
        return _json({**body, "metadata": body.get("metadata") or {}, "status": {"allowed": True}}, 201)

    async def _log(self, request: Request, target: Target) -> Response:
        source = logs.source(self._registry, target.namespace or "", target.name, request.query_params)
        sending = self._client.build_request("GET", source.url, params=dict(source.parameters))
        try:
            answer = await self._client.send(sending, stream=True)
        except httpx.HTTPError as error:
            raise ApiError(500, "InternalError", f'Get "{source.url}": {error}: is the node running?') from error
        return StreamingResponse(_passed_on(answer), answer.status_code, media_type="text/plain")


async def _passed_on(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The rest of a node's answer; when the node goes away in between, the log ends there."""
    try:
        with contextlib.suppress(httpx.HTTPError):
            async for chunk in answer.aiter_raw():
                yield chunk
    finally:
        await answer.aclose()


def _selection(request: Request, target: Target) -> Predicate:
    query = request.query_params
    fields = f"metadata.name={target.name}" if target.name else query.get("fieldSelector", "")
    return selection(target.kind, target.namespace, query.get("labelSelector", ""), fields)


def _untyped(item: Object) -> Object:
    """An element of a typed list: the list says the kind."""
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


async def _body(request: Request, kind_name: str) -> Any:
    return negotiation.parse_body(request.headers.get("content-type", ""), await request.body(), kind_name)


def _include(request: Request) -> str:
    return request.query_params.get("includeObject") or "Metadata"


def _json(body: Object, code: int = 200, content_type: str = "application/json") -> Response:
    return Response(json.dumps(body), code, headers={"content-type": content_type})


def _json_or_none(body: Object | None) -> Response | None:
    return None if body is None else _json(body)
