"""A namespace of its own for each test, with a model's VirtualService and DestinationRule in it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster.api import DESTINATION_RULE, VIRTUAL_SERVICE, Api, Kind
from sluice.cluster.connection import connect
from sluice.cluster.coordinates import Coordinates
from tests.contract.conftest import Cluster

NAMESPACE = Kind("Namespace", "api/v1", "namespaces", "create it")
OLD, NEW = "8f2c", "41ab"
HTTP: list[dict[str, Any]] = [
    {"name": "docs", "match": [{"uri": {"prefix": "/docs"}}], "redirect": {"uri": "/docs/"}},
    {
        "name": "primary",
        "match": [{"uri": {"prefix": "/v1"}}],
        "route": [{"destination": {"host": "model", "subset": f"v-{OLD}"}, "weight": 100}],
        "timeout": "300s",
        "mirror": {"host": "shadow"},
    },
    {"route": [{"destination": {"host": "batch"}}], "timeout": "1s"},
]


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[ApiClient]:
    async with connect(cluster.kubeconfig) as client:
        yield client


@pytest.fixture
def api(client: ApiClient) -> Api:
    """A user's hands in the cluster."""
    return Api(client)


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    name = f"sluice-test-{secrets.token_hex(4)}"
    created = await api.create(NAMESPACE, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await api.delete(NAMESPACE, "", name, created["metadata"]["uid"])


@pytest.fixture
async def model(api: Api, namespace: str) -> Coordinates:
    """A model of which no release is open; the old version has all traffic."""
    where = Coordinates(namespace, "model", "model", "model")
    istio = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": "model", "namespace": namespace}}
    subsets = [{"name": f"v-{OLD}", "labels": {"version": OLD}}, {"name": "batch", "labels": {"tier": "batch"}}]
    rule = {**istio, "kind": "DestinationRule", "spec": {"host": "model", "subsets": subsets}}
    routes = {"hosts": ["model.example.com", "model"], "gateways": ["ingress", "mesh"], "http": HTTP}
    await api.create(DESTINATION_RULE, namespace, rule)
    await api.create(VIRTUAL_SERVICE, namespace, {**istio, "kind": "VirtualService", "spec": routes})
    return where


async def eventually(holds: Callable[[], Awaitable[Any]], within_seconds: float = 30.0) -> Any:
    """What `holds` returns as soon as it is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while not (found := await holds()):
        assert loop.time() < deadline, f"not within {within_seconds} s"
        await asyncio.sleep(0.1)
    return found
