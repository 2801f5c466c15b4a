"""What the API server refuses, or does not answer, in the words of the library; and which requests are sent again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster import api as requests
from sluice.cluster.api import LEASE, VIRTUAL_SERVICE, Api, Kind, Missing
from sluice.cluster.connection import connect
from sluice.cluster.coordinates import Coordinates
from sluice.cluster.lease import KubernetesLease
from sluice.cluster.traffic import KubernetesTraffic
from sluice.errors import BadInput, Conflict, Refused, Unreachable
from tests.contract.conftest import free_port


@dataclass
class Answers:
    """A server that gives the answers that it is told to, the last one for ever."""

    address: str = ""
    queue: list[tuple[int, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.method)
        status, text = self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]
        return web.Response(status=status, text=text, content_type="application/json")

    def will(self, *answers: tuple[int, Any]) -> None:
        self.queue = [(code, said if isinstance(said, str) else json.dumps(said)) for code, said in answers]


def status(code: int, message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message, "details": details}


def kubeconfig(address: str) -> dict[str, Any]:
    return {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }


@pytest.fixture
async def server() -> AsyncIterator[Answers]:
    answers, application = Answers(), web.Application()
    application.router.add_route("*", "/{path:.*}", answers.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    answers.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield answers
    await runner.cleanup()


@pytest.fixture
async def told(server: Answers) -> AsyncIterator[Api]:
    """A client of that server, which does not wait before it tries again."""

    async def no_pause(seconds: float) -> None:
        pass

    async with connect(kubeconfig(server.address)) as client:
        yield Api(client, no_pause)


async def test_a_server_that_is_down_is_named_with_where_to_look() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    async with connect(kubeconfig(address)) as client:
        traffic = KubernetesTraffic(client, Coordinates("ai", "model", "model", "model"))
        with pytest.raises(Unreachable, match=rf"the API server {address} does not answer .*kubectl get --raw /readyz"):
            await traffic.read()


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_reads_are_tried_again(server: Answers, told: Api, code: int) -> None:
    server.will((code, status(code, "later")), (200, {"spec": {}}))
    assert await told.get(VIRTUAL_SERVICE, "ai", "m") == {"spec": {}}


async def test_reads_are_tried_again_a_few_times_only(server: Answers, told: Api) -> None:
    server.will((503, "<html>no upstream</html>"))
    with pytest.raises(Unreachable, match="503 Service Unavailable"):
        await told.get(VIRTUAL_SERVICE, "ai", "m")
    assert server.requests == ["GET"] * 3


async def test_a_write_that_may_have_arrived_is_not_sent_again(server: Answers, told: Api) -> None:
    server.will((503, status(503, "leader changed")))
    with pytest.raises(Unreachable, match="leader changed"):
        await told.patch(VIRTUAL_SERVICE, "ai", "m", [{"op": "test", "path": "/a", "value": 1}])
    with pytest.raises(Unreachable):
        await told.create(LEASE, "ai", {"metadata": {"name": "sluice-m"}})
    assert server.requests == ["PATCH", "POST"]


async def test_an_answer_that_does_not_come_in_time_is_no_answer(
    server: Answers, told: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "TIMEOUT_SECONDS", 1e-4)
    server.will((200, "{}"))
    with pytest.raises(Unreachable, match="TimeoutError"):
        await told.get(VIRTUAL_SERVICE, "ai", "m")


async def test_what_is_forbidden_names_verb_and_resource(server: Answers, told: Api) -> None:
    server.will((403, status(403, 'User "x" cannot patch', name="m")))
    with pytest.raises(Refused, match=r"allowed to patch virtualservices\.networking\.istio\.io: User .*can-i patch"):
        await told.patch(VIRTUAL_SERVICE, "ai", "m", [])


async def test_wrong_credentials_name_the_server(server: Answers, told: Api) -> None:
    server.will((401, status(401, "Unauthorized")))
    with pytest.raises(Refused, match=rf"{server.address} does not take the kubeconfig's credentials"):
        await told.get(VIRTUAL_SERVICE, "ai", "m")


async def test_what_is_not_valid_is_refused_with_the_servers_words(server: Answers, told: Api) -> None:
    server.will((422, status(422, "spec.http[0]: must be an object", causes=[{"field": "spec.http[0]"}])))
    with pytest.raises(Refused, match=r"ai/m: the API server does not take the patch: spec\.http\[0\]: must be"):
        await told.patch(VIRTUAL_SERVICE, "ai", "m", [])


@pytest.mark.parametrize("code", [409, 422])
async def test_a_stale_write_is_a_conflict(server: Answers, told: Api, code: int) -> None:
    server.will((code, status(code, "the object has been modified")))
    with pytest.raises(Conflict, match="VirtualService ai/m"):
        await told.patch(VIRTUAL_SERVICE, "ai", "m", [])


async def test_a_cluster_without_istio_is_told_what_to_install(client: ApiClient) -> None:
    absent = Kind("VirtualService", "apis/nonsense.example.com/v1", "virtualservices", "")
    with pytest.raises(Missing, match=r"knows no virtualservices\.nonsense\.example\.com .*install Istio's CRDs"):
        await Api(client).get(absent, "default", "m")


async def test_a_missing_namespace_is_named(client: ApiClient) -> None:
    lease = KubernetesLease(client, "m", Coordinates("absent", "m", "m", "m"))
    with pytest.raises(Missing, match="namespace absent does not exist"):
        await lease.acquire("r1", timedelta(minutes=1))


@pytest.mark.parametrize("content", [None, "", "clusters: [", "clusters: []"], ids=["absent", "empty", "broken", "no"])
async def test_a_kubeconfig_of_no_use_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadInput, match=f"kubeconfig {file}: .*kubectl config view"):
        async with connect(file):
            pass


async def test_outside_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadInput, match="outside a cluster name a kubeconfig"):
        async with connect():
            pass
