"""The Kubernetes API as the sandbox's node, gateway and `up --apply` use it: objects are plain dictionaries.

A thin layer over `kubernetes_asyncio`, which brings kubeconfig, credentials and TLS; it works against any Kubernetes
API server. `Informer` keeps a local copy of all objects of one resource up to date by list and watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from kubernetes_asyncio import client, config

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped objects."""

WATCH_SECONDS = 300
RETRY_SECONDS = 0.2
RETRY_CAP_SECONDS = 2.0
KUBECONFIG_WITHIN_SECONDS = 20

NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises when the API server does not answer it."""

log = logging.getLogger(__name__)


class KubernetesApiError(Exception):
    """The API server refused a request; `status` is the HTTP status, `reason` that of the Status object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Resource:
    """A kind's address: `api_version` as in manifests (`apps/v1`) and the plural of its path."""

    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        prefix = "/apis/" if "/" in self.api_version else "/api/"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{prefix}{self.api_version}{scope}/{self.plural}{tail}"


PODS = Resource("v1", "pods")
NODES = Resource("v1", "nodes", namespaced=False)
SERVICES = Resource("v1", "services")
CONFIG_MAPS = Resource("v1", "configmaps")
EVENTS = Resource("v1", "events")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices")
VIRTUAL_SERVICES = Resource("networking.istio.io/v1", "virtualservices")
DESTINATION_RULES = Resource("networking.istio.io/v1", "destinationrules")
GATEWAYS = Resource("networking.istio.io/v1", "gateways")


def key_of(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class KubernetesApi:
    """Requests to one API server; `async with KubernetesApi.connect(kubeconfig)`."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[KubernetesApi]:
        await _await_file(kubeconfig)
        configuration: Any = type.__call__(client.Configuration)
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        api_client: Any = type.__call__(client.ApiClient, configuration)
        try:
            yield cls(api_client)
        finally:
            await api_client.close()

    async def resource(self, api_version: str, kind: str) -> Resource:
        """The address of a kind, by discovery.

        Raises:
            KubernetesApiError: the server does not know it.
        """
        answer = await self._request("GET", Resource(api_version, "").path().rstrip("/"))
        for entry in answer["resources"]:
            if entry["kind"] == kind and "/" not in entry["name"]:
                return Resource(api_version, entry["name"], entry["namespaced"])
        raise KubernetesApiError(404, "NotFound", f"the server knows no {kind} in {api_version}")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        return await self._request("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, **query: str) -> tuple[list[Object], str]:
        """All objects of all namespaces, and the resourceVersion to watch from."""
        answer = await self._request("GET", resource.path(), query=query)
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    async def create(
        self, resource: Resource, namespace: str | None, body: Object, name: str | None = None, subresource: str = ""
    ) -> Object:
        """POST; with `name` and `subresource` to a subresource such as `binding`."""
        return await self._request("POST", resource.path(namespace, name, subresource), body=body)

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, body: Object, subresource: str = ""
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        return await self._request("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def delete(self, resource: Resource, namespace: str | None, name: str, uid: str, grace_seconds: int) -> None:
        """Delete the object with this uid, and no later one of the same name."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_seconds,
            "preconditions": {"uid": uid},
        }
        await self._request("DELETE", resource.path(namespace, name), body=options)

    async def watch(self, resource: Resource, resource_version: str) -> AsyncIterator[tuple[str, Object]]:
        """(type, object) of each change after `resource_version`, until the server ends the watch."""
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        response = await self._send("GET", resource.path(), query=query, limit_seconds=WATCH_SECONDS + 30)
        async with response:
            await _raise_for_status(response)
            async for line in response.content:
                event = json.loads(line)
                yield event["type"], event["object"]

    async def _request(self, method: str, path: str, **arguments: Any) -> Object:
        async with await self._send(method, path, **arguments) as response:
            await _raise_for_status(response)
            answer: Object = await response.json()
            return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        limit_seconds: float = 30,
    ) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._client.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(total=limit_seconds),
        )
        return response


async def until_answered(write: Callable[[], Awaitable[object]], title: str) -> None:
    """Try until the API server answers. That the object is gone, or changed by somebody faster, is an answer too."""
    delay_seconds = RETRY_SECONDS
    while True:
        try:
            await write()
            return
        except KubernetesApiError as error:
            if error.status in (404, 409):
                return
            log.warning("%s: %s", title, error)
        except NO_ANSWER as error:
            log.warning("%s: the API server does not answer: %s", title, error)
        await asyncio.sleep(delay_seconds)
        delay_seconds = min(2 * delay_seconds, RETRY_CAP_SECONDS)


async def _await_file(kubeconfig: Path) -> None:
    """The API server writes it when it starts, which may be a moment later."""
    deadline = time.monotonic() + KUBECONFIG_WITHIN_SECONDS
    while not await asyncio.to_thread(kubeconfig.exists):
        if time.monotonic() > deadline:
            raise FileNotFoundError(f"there is no kubeconfig {kubeconfig}: is the API server running?")
        await asyncio.sleep(RETRY_SECONDS / 4)


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text()
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    raise KubernetesApiError(response.status, status.get("reason", "Unknown"), status.get("message", text[:500]))


Change = Callable[[Literal["set", "delete"], Object], None]


class Informer:
    """All objects of one resource, kept current; `on_change` is called after each change of `items`."""

    def __init__(self, api: KubernetesApi, resource: Resource, on_change: Change) -> None:
        self.items: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._api = api
        self._resource = resource
        self._on_change = on_change

    async def run(self) -> None:
        """List and watch for ever; an unreachable server or an expired version means: list again."""
        delay_seconds = RETRY_SECONDS
        while True:
            try:
                version = await self._relist()
                delay_seconds = RETRY_SECONDS
                while True:
                    version = await self._watch(version)
            except (KubernetesApiError, *NO_ANSWER, ValueError) as error:
                log.warning("watch of %s interrupted, listing again: %s", self._resource.plural, error)
                await asyncio.sleep(delay_seconds)
                delay_seconds = min(2 * delay_seconds, RETRY_CAP_SECONDS)

    async def _relist(self) -> str:
        items, version = await self._api.list(self._resource)
        fresh = {key_of(item): item for item in items}
        for key in self.items.keys() - fresh.keys():
            self._on_change("delete", self.items.pop(key))
        for key, item in fresh.items():
            self._set(key, item)
        self.synced.set()
        return version

    async def _watch(self, version: str) -> str:
        async for kind, item in self._api.watch(self._resource, version):
            if kind == "ERROR":
                raise KubernetesApiError(item.get("code", 500), item.get("reason", ""), item.get("message", ""))
            version = item["metadata"]["resourceVersion"]
            if kind == "DELETED":
                self.items.pop(key_of(item), None)
                self._on_change("delete", item)
            elif kind != "BOOKMARK":
                self._set(key_of(item), item)
        return version

    def _set(self, key: Key, item: Object) -> None:
        known = self.items.get(key)
        if known and known["metadata"]["resourceVersion"] == item["metadata"]["resourceVersion"]:
            return
        self.items[key] = item
        self._on_change("set", item)
