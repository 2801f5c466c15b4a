"""Writes of several clients: what conflicts, what is refused, what changes nothing."""

from typing import Any

import httpx
import pytest

from tests.contract.kubernetes_api.objects import (
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    Object,
    config_map,
    deployment,
    deployments,
    virtual_service,
    virtual_services,
)


def created(api: httpx.Client, path: str, body: Object) -> Object:
    answer: Object = api.post(path, json=body).raise_for_status().json()
    return answer


def test_of_two_writers_with_the_same_resource_version_one_wins(api: httpx.Client, namespace: str) -> None:
    item = created(api, virtual_services(namespace), virtual_service())
    path = f"{virtual_services(namespace)}/v"
    first = api.put(path, json={**item, "spec": {**item["spec"], "hosts": ["first.example.com"]}})
    second = api.put(path, json={**item, "spec": {**item["spec"], "hosts": ["second.example.com"]}})
    assert (first.status_code, second.status_code, second.json()["reason"]) == (200, 409, "Conflict")
    assert api.get(path).json()["spec"]["hosts"] == ["first.example.com"]


def test_a_json_patch_whose_test_fails_changes_nothing(api: httpx.Client, namespace: str) -> None:
    item = created(api, virtual_services(namespace), virtual_service())
    path = f"{virtual_services(namespace)}/v"
    stale = [
        {"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 1},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
    ]
    answer = api.patch(path, json=stale, headers=JSON_PATCH)
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert api.get(path).json() == item


def test_a_write_that_changes_nothing_keeps_the_resource_version(api: httpx.Client, namespace: str) -> None:
    item = created(api, virtual_services(namespace), virtual_service())
    path = f"{virtual_services(namespace)}/v"
    assert api.put(path, json=item).json() == item
    assert api.patch(path, json={"spec": {"hosts": item["spec"]["hosts"]}}, headers=MERGE).json() == item


def test_only_the_specification_moves_the_generation(api: httpx.Client, namespace: str) -> None:
    created(api, virtual_services(namespace), virtual_service())
    path = f"{virtual_services(namespace)}/v"
    annotated = api.patch(path, json={"metadata": {"annotations": {"a": "b"}}}, headers=MERGE).json()
    reported = api.patch(f"{path}/status", json={"status": {"observedGeneration": 1}}, headers=MERGE).json()
    shifted = api.patch(path, json={"spec": {"hosts": ["other.example.com"]}}, headers=MERGE).json()
    assert [one["metadata"]["generation"] for one in (annotated, reported, shifted)] == [1, 1, 2]
    assert shifted["status"] == {"observedGeneration": 1}


def test_a_dry_run_answers_and_leaves_nothing(api: httpx.Client, namespace: str) -> None:
    answer = api.post(virtual_services(namespace), params={"dryRun": "All"}, json=virtual_service())
    assert answer.status_code == 201
    assert api.get(f"{virtual_services(namespace)}/v").status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"spec": {"http": [{"route": [{"destination": {"host": 1}}]}]}}, "spec.http[0].route[0].destination.host"),
        ({"spec": {"http": [{"route": [{"weight": 1}]}]}}, "spec.http[0].route[0].destination"),
        (
            {"spec": {"http": [{"corsPolicy": {"unmatchedPreflights": "MAYBE"}}]}},
            "spec.http[0].corsPolicy.unmatchedPreflights",
        ),
    ],
    ids=["wrong type", "missing", "not of the enumeration"],
)
def test_a_custom_resource_that_breaks_its_schema_is_refused_at_its_field(
    change: Object, field: str, api: httpx.Client, namespace: str
) -> None:
    created(api, virtual_services(namespace), virtual_service())
    answer = api.patch(f"{virtual_services(namespace)}/v", json=change, headers=MERGE)
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert answer.json()["details"]["causes"][0]["field"] == field


def test_a_built_in_kind_with_a_wrong_type_cannot_be_decoded(api: httpx.Client, namespace: str) -> None:
    body = deployment()
    body["spec"]["replicas"] = "two"
    answer = api.post(deployments(namespace), json=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert "spec.replicas" in answer.json()["message"]


@pytest.mark.parametrize(("validation", "status"), [("Strict", 400), ("Warn", 201), ("Ignore", 201)])
def test_unknown_fields_of_built_in_kinds_are_pruned_or_refused(
    validation: str, status: int, api: httpx.Client, namespace: str
) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    answer = api.post(deployments(namespace), params={"fieldValidation": validation}, json=body)
    named = 'unknown field "spec.template.spec.containers[0].imagee"'
    assert answer.status_code == status
    assert ("warning" in answer.headers) is (validation == "Warn")
    if status == 400:
        assert named in answer.json()["message"]
    else:
        assert "imagee" not in answer.text


def test_a_strategic_patch_merges_lists_by_their_keys(api: httpx.Client, namespace: str) -> None:
    created(api, deployments(namespace), deployment())
    patch: dict[str, Any] = {"name": "c", "image": "nginx:2", "env": [{"name": "B", "value": "2"}]}
    body = {"spec": {"template": {"spec": {"containers": [patch, {"name": "side", "image": "busybox"}]}}}}
    answer = api.patch(f"{deployments(namespace)}/m", json=body, headers=STRATEGIC).json()
    containers = {one["name"]: one for one in answer["spec"]["template"]["spec"]["containers"]}
    assert {one["name"] for one in containers["c"]["env"]} == {"A", "B"}
    assert (containers["c"]["image"], containers["c"]["ports"][0]["containerPort"]) == ("nginx:2", 7860)
    assert containers["side"]["image"] == "busybox"


def test_a_strategic_patch_deletes_what_its_directives_name(api: httpx.Client, namespace: str) -> None:
    created(api, deployments(namespace), deployment())
    gone = {"name": "c", "env": [{"name": "A", "$patch": "delete"}], "ports": None}
    body = {"spec": {"template": {"spec": {"containers": [gone]}}}}
    answer = api.patch(f"{deployments(namespace)}/m", json=body, headers=STRATEGIC).json()
    container = answer["spec"]["template"]["spec"]["containers"][0]
    assert (container["env"], container.get("ports")) == ([], None)


def test_a_pod_gets_its_node_by_a_binding_and_not_by_a_patch(api: httpx.Client, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "c", "image": "nginx:1"}]}
    created(api, pods, {"metadata": {"name": "p"}, "spec": spec})
    refused = api.patch(f"{pods}/p", json={"spec": {"nodeName": "n"}}, headers=MERGE)
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    bound, again = (api.post(f"{pods}/p/binding", json=binding).status_code for _ in range(2))
    assert (refused.status_code, bound, again) == (422, 201, 409)
    assert api.get(f"{pods}/p").json()["spec"]["nodeName"] == "n"


def test_a_dependent_goes_with_its_last_owner(api: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = created(api, path, config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    with api.stream("GET", path, params={"watch": "1", "timeoutSeconds": "5"}) as watching:
        created(api, path, config_map("dependent", ownerReferences=[reference]))
        api.delete(f"{path}/owner").raise_for_status()
        assert any('"DELETED"' in line and '"dependent"' in line for line in watching.iter_lines())


def test_orphaning_leaves_the_dependents(api: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = created(api, path, config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    created(api, path, config_map("dependent", ownerReferences=[reference]))
    with api.stream("GET", path, params={"watch": "1", "timeoutSeconds": "5"}) as watching:
        api.delete(f"{path}/owner", params={"propagationPolicy": "Orphan"}).raise_for_status()
        assert any('"DELETED"' in line and '"owner"' in line for line in watching.iter_lines())
    assert "ownerReferences" not in api.get(f"{path}/dependent").json()["metadata"]


def test_a_deleted_namespace_takes_its_content_with_it(api: httpx.Client, namespace: str) -> None:
    created(api, virtual_services(namespace), virtual_service())
    selector = {"watch": "1", "timeoutSeconds": "5", "fieldSelector": f"metadata.name={namespace}"}
    with api.stream("GET", "/api/v1/namespaces", params=selector) as watching:
        assert api.delete(f"/api/v1/namespaces/{namespace}").json()["status"]["phase"] == "Terminating"
        assert any('"DELETED"' in line for line in watching.iter_lines())
    assert api.get(virtual_services(namespace)).json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/api/v1/namespaces", 405),
        ("PUT", "/api/v1/namespaces/default/configmaps", 405),
        ("POST", "/version", 405),
        ("GET", "/openapi/v2", 406),
    ],
)
def test_what_cannot_be_done_is_said_as_a_status(method: str, path: str, status: int, api: httpx.Client) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["kind"], answer.json()["code"]) == (status, "Status", status)
