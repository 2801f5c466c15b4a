"""Clusters for the tests: one that a whole module shares, and one that a test may break."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.kubernetes_api.api_processes import ApiServer, api_server, controllers, stand_in_node


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that the tests of a module share."""
    with api_server(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(server: ApiServer) -> Iterator[ApiServer]:
    """The shared API server with controllers and a stand-in node."""
    with controllers(server.kubeconfig), stand_in_node(server.kubeconfig):
        yield server


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of this test alone."""
    with api_server(tmp_path) as running:
        yield running


@pytest.fixture
def api(server: ApiServer) -> Iterator[httpx.Client]:
    """A plain HTTP client of the shared API server."""
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture
def namespace(api: httpx.Client) -> str:
    """A namespace of this test alone."""
    body = {"metadata": {"generateName": "test-"}}
    return str(api.post("/api/v1/namespaces", json=body).raise_for_status().json()["metadata"]["name"])
