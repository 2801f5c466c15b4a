"""The server answers as a real Kubernetes did, case by case, in the recorded order.

Cases that lie in what the subset leaves out are listed with the reason; for these the server must refuse clearly. What
they leave behind is then made in another way, because later cases build on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.kubernetes_api.api_processes import api_server, controllers, stand_in_node, wait_for
from tests.contract.kubernetes_api.replay import Answer, Case, Replay, differences, load, without

CASES = load(Path(__file__).with_name("transcripts.jsonl"))
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/namespaces/contract/virtualservices"
DEPLOYMENTS = "/apis/apps/v1/namespaces/contract/deployments"
MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}


@dataclass(frozen=True)
class LeftOut:
    """A case outside the subset: why, how it is refused, and what makes later cases possible all the same."""

    reason: str
    status: int
    message: str
    instead: Callable[[httpx.Client, Case], None] = lambda client, case: None


def _create(client: httpx.Client, case: Case) -> None:
    path = case["request"]["path"].partition("?")[0].rpartition("/")[0]
    assert client.post(path, json=case["request"]["body"]).status_code == 201


def _patch(path: str, body: Any, headers: dict[str, str]) -> Callable[[httpx.Client, Case], None]:
    def patch(client: httpx.Client, case: Case) -> None:
        assert client.patch(path, json=body, headers=headers).status_code == 200

    return patch


def _env(*names: str) -> dict[str, Any]:
    env = [{"name": name, "$patch": "delete"} if name == "A" else {"name": name, "value": "9"} for name in names]
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}}


_APPLY = "server-side apply"
_RBAC = "there are no users and no RBAC: every token is unknown"
LEFT_OUT = {
    "vs apply creates": LeftOut(_APPLY, 501, _APPLY, _create),
    "vs apply without fieldManager": LeftOut(_APPLY, 501, _APPLY),
    "vs apply by another manager conflicts": LeftOut(_APPLY, 501, _APPLY),
    "vs apply by another manager, forced": LeftOut(
        _APPLY, 501, _APPLY, _patch(f"{VIRTUAL_SERVICES}/s", {"spec": {"hosts": ["t.example.com"]}}, MERGE)
    ),
    "vs apply drops a label it owned": LeftOut(
        _APPLY,
        501,
        _APPLY,
        _patch(f"{VIRTUAL_SERVICES}/s", {"metadata": {"labels": None}, "spec": {"hosts": ["s.example.com"]}}, MERGE),
    ),
    "vs apply same again (no change)": LeftOut(_APPLY, 501, _APPLY),
    "deployment apply": LeftOut(_APPLY, 501, _APPLY, _create),
    "deployment apply: env added by another manager is kept": LeftOut(
        _APPLY, 501, _APPLY, _patch(f"{DEPLOYMENTS}/ap", _env("Z"), STRATEGIC)
    ),
    "deployment apply: first manager removes its env": LeftOut(
        _APPLY, 501, _APPLY, _patch(f"{DEPLOYMENTS}/ap", _env("A"), STRATEGIC)
    ),
    "forbidden": LeftOut(_RBAC, 401, "Unauthorized"),
    "forbidden write": LeftOut(_RBAC, 401, "Unauthorized"),
    "selfsubjectaccessreview": LeftOut(_RBAC, 401, "Unauthorized"),
}

DIFFERENT = {
    "version": ((".body",), "the server names its own build"),
    "openapi v3 index": ((".body.paths",), "the server has the group versions of the subset"),
    "vs list bad continue": ((".body.message",), "the message quotes the JSON parser"),
    "vs table": ((".body.columnDefinitions[].description",), "texts for people, shortened"),
    "deployment table": (
        (".body.columnDefinitions[].description", ".body.rows"),
        "texts for people, shortened; the rows depend on the moment",
    ),
    "pod table": (
        (".body.columnDefinitions[].description", ".body.rows"),
        "texts for people, shortened; the rows depend on the moment",
    ),
    "pods": (
        (".body.items[].spec.volumes", ".body.items[].spec.containers[].volumeMounts"),
        "there are no service accounts' tokens, so none is mounted",
    ),
    "hpa create": ((".warning",), "the server warns that it stores HPAs only"),
    "lease create": ((".body.spec.holderIdentity",), "the recorded body was changed after it was sent"),
}
"""Members of the answer that are compared in no case or by a test of their own, with the reason."""


class Actions:
    """What happened between the recorded requests, and during the recorded watches."""

    def __init__(self, client: httpx.Client, cases: list[Case]) -> None:
        self._client = client
        self._virtual_service = next(case for case in cases if case["case"] == "vs create")["request"]["body"]

    def before(self, case: str) -> None:
        """Wait for what the recorded run waited for."""
        path = {"deployment get when available": "m", "endpointslices of the service": "ap"}.get(case)
        if path is not None:
            wait_for(lambda: self._is_settled(path), f"deployment {path} with all pods")
        if case == "endpointslices of the service":
            wait_for(self._has_endpoints, "endpoints of the service ap")
        if case == "deployment that never gets ready: status":
            wait_for(lambda: self._reason("never") == "ProgressDeadlineExceeded", "the progress deadline")
        if case == "deployment after foreground delete":
            wait_for(lambda: self._client.get(f"{DEPLOYMENTS}/m").status_code == 404, "the end of the deployment m")

    def meanwhile(self, case: str) -> None:
        """Do what the recorded watch saw."""
        path = f"{VIRTUAL_SERVICES}/a"
        if case == "vs watch from list resourceVersion":
            self._patch(path, {"metadata": {"annotations": {"t": "1"}}})
            body = {**self._virtual_service, "metadata": {"name": "w1", "namespace": "contract"}}
            self._client.post(VIRTUAL_SERVICES, json=body).raise_for_status()
            self._client.delete(f"{VIRTUAL_SERVICES}/w1").raise_for_status()
        if case == "vs watch with label selector: object leaves the selection":
            self._patch(path, {"metadata": {"labels": {"team": "new"}}})
            self._patch(path, {"metadata": {"labels": {"team": None}}})

    def _patch(self, path: str, body: Any) -> None:
        self._client.patch(path, json=body, headers=MERGE).raise_for_status()

    def _is_settled(self, name: str) -> bool:
        found = self._client.get(f"{DEPLOYMENTS}/{name}").json()
        status = found.get("status", {})
        counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
        settled = counts == [found["spec"]["replicas"]] * 3 and self._reason(name) == "NewReplicaSetAvailable"
        return settled and status["terminatingReplicas"] == 0

    def _reason(self, name: str) -> str:
        conditions = self._client.get(f"{DEPLOYMENTS}/{name}").json().get("status", {}).get("conditions", [])
        return next((str(one["reason"]) for one in conditions if one["type"] == "Progressing"), "")

    def _has_endpoints(self) -> bool:
        path = "/apis/discovery.k8s.io/v1/namespaces/contract/endpointslices"
        found = self._client.get(path, params={"labelSelector": "kubernetes.io/service-name=ap"}).json()["items"]
        return bool(found) and len(found[0]["endpoints"]) == 2


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    """The answers to all cases, replayed once against a fresh cluster."""
    with (
        api_server(tmp_path_factory.mktemp("cluster")) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        controllers(server.kubeconfig),
        stand_in_node(server.kubeconfig),
    ):
        yield _replayed(client)


def _replayed(client: httpx.Client) -> dict[str, Answer]:
    replay, actions, found = Replay(client), Actions(client, CASES), {}
    for case in CASES:
        name = case["case"]
        actions.before(name)
        found[name] = replay.send(case, lambda name=name: actions.meanwhile(name))  # type: ignore[misc]
        if name in LEFT_OUT:
            LEFT_OUT[name].instead(client, case)
    return found


def test_every_difference_is_of_a_recorded_case() -> None:
    names = [case["case"] for case in CASES]
    assert len(set(names)) == len(names) == 131
    assert not (LEFT_OUT.keys() | DIFFERENT.keys()) - set(names)


IN_SUBSET = [case for case in CASES if case["case"] not in LEFT_OUT and not case["case"].startswith("discovery")]


@pytest.mark.parametrize("case", IN_SUBSET, ids=lambda case: case["case"])
def test_answers_as_recorded(case: Case, answers: dict[str, Answer]) -> None:
    ignored, _ = DIFFERENT.get(case["case"], ((), ""))
    recorded, answered = without(ignored, case["response"]), without(ignored, answers[case["case"]])
    assert list(differences(recorded, answered)) == []


@pytest.mark.parametrize("name", LEFT_OUT)
def test_refuses_clearly_what_the_subset_leaves_out(name: str, answers: dict[str, Answer]) -> None:
    expected, body = LEFT_OUT[name], answers[name]["body"]
    assert (answers[name]["status"], body["kind"], body["code"]) == (expected.status, "Status", expected.status)
    assert expected.message in body["message"]


@pytest.mark.parametrize("name", [case["case"] for case in CASES if case["case"].startswith("discovery")])
def test_discovery_describes_each_resource_of_the_subset_as_recorded(name: str, answers: dict[str, Answer]) -> None:
    recorded = next(case["response"] for case in CASES if case["case"] == name)
    answered = answers[name]
    assert {**answered, "body": None} == {**recorded, "body": None}
    assert list(_unlike(recorded["body"], answered["body"], "")) == []


def _unlike(recorded: Any, answered: Any, path: str) -> Iterator[str]:
    """Where the answer says something else; what only the recorded cluster has is not in the subset."""
    if isinstance(answered, dict):
        for key in answered:
            yield from _unlike(recorded[key], answered[key], f"{path}.{key}")
    elif isinstance(answered, list) and answered and isinstance(answered[0], dict):
        known = {_name_of(element): element for element in recorded}
        for element in answered:
            yield from _unlike(known[_name_of(element)], element, f"{path}[{_name_of(element)}]")
    elif isinstance(answered, list):
        yield from (f"{path}: {element}" for element in answered if element not in recorded)
    elif recorded != answered and not path.endswith(("serverAddress", "storageVersionHash")):
        yield f"{path}: recorded {recorded!r}, answered {answered!r}"


def _name_of(element: dict[str, Any]) -> str:
    keys = ("name", "resource", "subresource", "groupVersion", "version", "clientCIDR")
    return next((str(element[key]) for key in keys if key in element), "") or str(element["metadata"]["name"])
