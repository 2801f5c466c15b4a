"""Requests to the Kubernetes API by path, with plain dicts, and the one place where its errors become the library's.

Thin on purpose: the generated clients bring a class per kind, and know no JSON patch for custom resources. A request is
repeated only where that cannot do harm: if sending it twice has the effect of sending it once, or it was never sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.exceptions import ApiException

from sluice.cluster.coordinates import Document, Operation
from sluice.errors import Conflict, Refused, SluiceError, Unreachable

FIELD_MANAGER = "sluice"
ATTEMPTS = 3
PAUSE_SECONDS = 0.2
"""Before the second attempt; doubles."""
TIMEOUT_SECONDS = 10.0
"""Of one request."""

Sleep = Callable[[float], Awaitable[None]]


class Missing(Refused):
    """The object is not in the cluster."""


@dataclass(frozen=True)
class Kind:
    """A resource of the API, and what to do where one is missing."""

    name: str
    path: str
    """`apis/<group>/<version>` or `api/v1`."""
    plural: str
    remedy: str

    @property
    def resource(self) -> str:
        """As RBAC and kubectl name it."""
        parts = self.path.split("/")
        return f"{self.plural}.{parts[1]}" if parts[0] == "apis" else self.plural


_MANIFESTS = "apply the model's manifests (kubectl apply -k manifests/overlays/<yours>)"
VIRTUAL_SERVICE = Kind("VirtualService", "apis/networking.istio.io/v1", "virtualservices", _MANIFESTS)
DESTINATION_RULE = Kind("DestinationRule", "apis/networking.istio.io/v1", "destinationrules", _MANIFESTS)
DEPLOYMENT = Kind("Deployment", "apis/apps/v1", "deployments", "a release's deploy task creates it")
POD = Kind("Pod", "api/v1", "pods", "its Deployment creates it")
LEASE = Kind("Lease", "apis/coordination.k8s.io/v1", "leases", "a release's begin task creates it")


class Api:
    """One API server. Raises Unreachable, Conflict, Missing and Refused, never the client's own errors."""

    def __init__(self, client: ApiClient, sleep: Sleep = asyncio.sleep) -> None:
        self._client = client
        self._sleep = sleep

    async def get(self, kind: Kind, namespace: str, name: str) -> Document:
        return await self._send(Request("get", "GET", kind, namespace, name, repeatable=True))

    async def find(self, kind: Kind, namespace: str, selector: str) -> list[dict[str, Any]]:
        """All objects that `selector` (labels) chooses in a namespace; in every namespace if that is ""."""
        query = {"labelSelector": selector}
        found = await self._send(Request("list", "GET", kind, namespace, query=query, repeatable=True))
        items: list[dict[str, Any]] = found["items"]
        return items

    async def create(self, kind: Kind, namespace: str, body: Document) -> Document:
        """Raises Conflict if the object exists by now."""
        return await self._send(Request("create", "POST", kind, namespace, body["metadata"]["name"], body, _MANAGED))

    async def replace(self, kind: Kind, namespace: str, body: Document) -> Document:
        """`body` carries the resourceVersion that it was made from."""
        return await self._send(Request("update", "PUT", kind, namespace, body["metadata"]["name"], body, _MANAGED))

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: list[Operation], repeatable: bool = False
    ) -> Document:
        """A JSON patch; raises Conflict if one of its tests fails."""
        kind_of_body = "application/json-patch+json"
        return await self._send(
            Request("patch", "PATCH", kind, namespace, name, patch, _MANAGED, kind_of_body, repeatable)
        )

    async def merge(self, kind: Kind, namespace: str, body: Document) -> Document:
        """Makes the fields of `body` so (lists as a whole) and leaves the others; what is so already is not written."""
        name, kind_of_body = body["metadata"]["name"], "application/merge-patch+json"
        return await self._send(Request("patch", "PATCH", kind, namespace, name, body, _MANAGED, kind_of_body, True))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Deletes that very object after all that it owns: it is there as long as they are."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        await self._send(Request("delete", "DELETE", kind, namespace, name, body, repeatable=True))

    async def _send(self, request: Request) -> Document:
        pause_seconds = PAUSE_SECONDS
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._call(request)
            except Unreachable as error:
                if not (request.repeatable or isinstance(error.__cause__, aiohttp.ClientConnectorError)):
                    raise
            await self._sleep(pause_seconds)
            pause_seconds *= 2
        return await self._call(request)

    async def _call(self, request: Request) -> Document:
        address = str(self._client.configuration.host)
        try:
            answer: Document = await self._client.call_api(
                request.path,
                request.method,
                query_params=list(request.query.items()),
                header_params={"Accept": "application/json", "Content-Type": request.content_type},
                body=request.body,
                response_types_map=dict.fromkeys((200, 201, 202), "object"),
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_SECONDS,
            )
        except ApiException as error:
            raise _translated(error, request, address) from error
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError, too
            raise Unreachable(_no_answer(request, address, str(error) or type(error).__name__)) from error
        return answer


_MANAGED = {"fieldManager": FIELD_MANAGER}


@dataclass(frozen=True)
class Request:
    """What is asked of the API server."""

    verb: str
    """As RBAC names it."""
    method: str
    kind: Kind
    namespace: str
    name: str = ""
    body: Document | list[Operation] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    repeatable: bool = False
    """Sent twice, it has the effect of sending it once."""

    @property
    def path(self) -> str:
        namespace = ["namespaces", self.namespace] if self.namespace else []
        name = [self.name] if self.name and self.method != "POST" else []
        return "/" + "/".join([self.kind.path, *namespace, self.kind.plural, *name])

    @property
    def target(self) -> str:
        if self.name:
            return f"{self.kind.name} {self.namespace}/{self.name}"
        return f"{self.kind.plural} in {self.namespace or 'all namespaces'}"


def _translated(error: ApiException, request: Request, address: str) -> SluiceError:
    status = _status(error)
    said = str(status.get("message") or error.reason)
    match error.status:
        case 401:
            return Refused(f"{address} does not take the kubeconfig's credentials; renew its token or certificate")
        case 403:
            return Refused(_forbidden(request, said))
        case 404:
            return Missing(_missing(status, request, address))
        case 409:
            return Conflict(f"{request.target} was written by somebody else meanwhile: {said}")
        case 422 if isinstance(request.body, list) and not (status.get("details") or {}).get("causes"):
            return Conflict(f"{request.target} is no longer as it was read (a test of the patch failed)")
        case code if code == 429 or code >= 500:
            return Unreachable(_no_answer(request, address, f"{code} {said}"))
    return Refused(f"{request.target}: the API server does not take the {request.verb}: {said}")


def _forbidden(request: Request, said: str) -> str:
    asked = f"{request.verb} {request.kind.resource}"
    where = f"-n {request.namespace}" if request.namespace else "--all-namespaces"
    return f"not allowed to {asked}: {said}; grant it with a Role, then check: kubectl auth can-i {asked} {where}"


def _missing(status: Mapping[str, Any], request: Request, address: str) -> str:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces":
        return f"namespace {request.namespace} does not exist on {address}; {_MANIFESTS}"
    if details.get("name"):
        return f"{request.target} does not exist on {address}; {request.kind.remedy}"
    return f"{address} knows no {request.kind.resource} ({request.kind.path}); install Istio's CRDs (1.22 or newer)"


def _no_answer(request: Request, address: str, said: str) -> str:
    asked = f"{request.verb} {request.target}"
    return f"the API server {address} does not answer ({asked}: {said}); look with: kubectl get --raw /readyz"


def _status(error: ApiException) -> Mapping[str, Any]:
    """The Status object in an error's body; a proxy in between may answer with anything."""
    try:
        body = json.loads(error.body or "{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
