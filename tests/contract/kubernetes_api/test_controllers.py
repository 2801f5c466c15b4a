"""The controllers as programs: rollouts, endpoints, reaction time, and the loss of the API server."""

import json
import signal
import statistics
import time
from typing import Any

import httpx

from tests.contract.kubernetes_api.api_processes import ApiServer, controllers, stand_in_node, wait_for
from tests.contract.kubernetes_api.objects import MERGE, Object, deployment, deployments

MAXIMUM_REACTION_SECONDS = 0.1


def items(api: httpx.Client, group: str, namespace: str, plural: str) -> list[Object]:
    found: list[Object] = api.get(f"/{group}/namespaces/{namespace}/{plural}").raise_for_status().json()["items"]
    return found


def pods(api: httpx.Client, namespace: str) -> list[Object]:
    return items(api, "api/v1", namespace, "pods")


def status(api: httpx.Client, namespace: str, name: str = "m") -> Object:
    found: Object = api.get(f"{deployments(namespace)}/{name}").json().get("status", {})
    return found


def available(api: httpx.Client, namespace: str, replicas: int) -> None:
    wait_for(lambda: status(api, namespace).get("availableReplicas", 0) == replicas, f"{replicas} available pods")


def reason(api: httpx.Client, namespace: str, type_: str) -> str:
    found = {one["type"]: one["reason"] for one in status(api, namespace).get("conditions", [])}
    return str(found.get(type_, ""))


def test_a_rolling_update_never_drops_below_the_bound(cluster: ApiServer, api: httpx.Client, namespace: str) -> None:
    api.post(deployments(namespace), json=deployment(replicas=4)).raise_for_status()
    available(api, namespace, 4)
    watch = {"watch": "1", "timeoutSeconds": "20"}
    with api.stream("GET", deployments(namespace), params=watch) as response:
        change = {"spec": {"template": deployment(value="2")["spec"]["template"]}}
        api.patch(f"{deployments(namespace)}/m", json=change, headers=MERGE).raise_for_status()
        seen: list[Object] = []
        for line in response.iter_lines():
            found = json.loads(line)["object"]["status"]
            seen.append(found)
            if (
                len(seen) > 1
                and found.get("updatedReplicas") == found.get("replicas") == found.get("availableReplicas") == 4
            ):
                break
    assert min(one.get("availableReplicas", 0) for one in seen) >= 3
    assert max(one.get("replicas", 0) for one in seen) <= 5


def test_recreate_starts_the_new_pods_after_the_old_are_gone(
    cluster: ApiServer, api: httpx.Client, namespace: str
) -> None:
    body = deployment(replicas=2, strategy={"type": "Recreate"})
    api.post(deployments(namespace), json=body).raise_for_status()
    available(api, namespace, 2)
    path = f"/api/v1/namespaces/{namespace}/pods"
    with api.stream("GET", path, params={"watch": "1", "timeoutSeconds": "20"}) as response:
        change = {"spec": {"template": deployment(value="2")["spec"]["template"]}}
        api.patch(f"{deployments(namespace)}/m", json=change, headers=MERGE).raise_for_status()
        present: set[str] = set()
        for line in response.iter_lines():
            event = json.loads(line)
            name = event["object"]["metadata"]["name"]
            if event["type"] == "ADDED" and event["object"]["spec"]["containers"][0]["env"][0]["value"] == "2":
                break
            present = present - {name} if event["type"] == "DELETED" else present | {name}
    assert present == set()


def test_a_rollout_without_progress_is_reported(cluster: ApiServer, api: httpx.Client, namespace: str) -> None:
    body = deployment(progressDeadlineSeconds=1)
    body["spec"]["template"]["metadata"]["annotations"] = {"fake/ready": "false"}
    api.post(deployments(namespace), json=body).raise_for_status()
    wait_for(lambda: reason(api, namespace, "Progressing") == "ProgressDeadlineExceeded", "the deadline")
    assert reason(api, namespace, "Available") == "MinimumReplicasUnavailable"


def test_a_deleted_pod_is_replaced_at_once(cluster: ApiServer, api: httpx.Client, namespace: str) -> None:
    api.post(deployments(namespace), json=deployment()).raise_for_status()
    available(api, namespace, 1)
    delays = []
    path = f"/api/v1/namespaces/{namespace}/pods"
    for _ in range(10):
        wait_for(
            lambda: len(pods(api, namespace)) == 1 and status(api, namespace).get("availableReplicas") == 1, "one pod"
        )
        (pod,) = pods(api, namespace)
        version = api.get(path).json()["metadata"]["resourceVersion"]
        watch = {"watch": "1", "timeoutSeconds": "10", "resourceVersion": version}
        with api.stream("GET", path, params=watch) as response:
            began = time.monotonic()
            api.delete(f"{path}/{pod['metadata']['name']}").raise_for_status()
            assert any(json.loads(line)["type"] == "ADDED" for line in response.iter_lines())
            delays.append(time.monotonic() - began)
    assert statistics.median(delays) < MAXIMUM_REACTION_SECONDS, f"median reaction: {statistics.median(delays)} s"


def service(target: str | int) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": target}]
    return {"metadata": {"name": "s"}, "spec": {"selector": {"app": "m"}, "ports": ports}}


def endpoints(api: httpx.Client, namespace: str) -> list[Any]:
    found = items(api, "apis/discovery.k8s.io/v1", namespace, "endpointslices")
    return [endpoint for one in found for endpoint in one["endpoints"]]


def test_endpoints_follow_the_pods_with_their_named_port(cluster: ApiServer, api: httpx.Client, namespace: str) -> None:
    api.post(deployments(namespace), json=deployment(replicas=2)).raise_for_status()
    api.post(f"/api/v1/namespaces/{namespace}/services", json=service("http")).raise_for_status()
    wait_for(lambda: [one["conditions"]["ready"] for one in endpoints(api, namespace)] == [True, True], "two endpoints")
    (found,) = items(api, "apis/discovery.k8s.io/v1", namespace, "endpointslices")
    assert found["ports"] == [{"name": "web", "port": 7860, "protocol": "TCP"}]
    addresses = {pod["status"]["podIP"] for pod in pods(api, namespace)}
    assert {one["addresses"][0] for one in found["endpoints"]} == addresses
    api.patch(f"{deployments(namespace)}/m", json={"spec": {"replicas": 0}}, headers=MERGE).raise_for_status()
    wait_for(lambda: endpoints(api, namespace) == [], "no endpoints")


def test_a_pod_that_is_not_ready_is_an_endpoint_that_is_not_ready(
    cluster: ApiServer, api: httpx.Client, namespace: str
) -> None:
    body = deployment()
    body["spec"]["template"]["metadata"]["annotations"] = {"fake/ready": "false"}
    api.post(deployments(namespace), json=body).raise_for_status()
    api.post(f"/api/v1/namespaces/{namespace}/services", json=service(7860)).raise_for_status()
    wait_for(lambda: len(endpoints(api, namespace)) == 1, "one endpoint")
    assert endpoints(api, namespace)[0]["conditions"] == {"ready": False, "serving": False, "terminating": False}


def test_the_controllers_outlive_a_restart_of_the_api_server(fresh: ApiServer) -> None:
    with controllers(fresh.kubeconfig), stand_in_node(fresh.kubeconfig):
        with httpx.Client(base_url=fresh.url) as api:
            api.post(deployments("default"), json=deployment()).raise_for_status()
            available(api, "default", 1)
        fresh.stop(signal.SIGKILL)
        fresh.start()
        with httpx.Client(base_url=fresh.url) as api:
            api.patch(f"{deployments('default')}/m", json={"spec": {"replicas": 3}}, headers=MERGE).raise_for_status()
            available(api, "default", 3)
            wait_for(lambda: len(pods(api, "default")) == 3, "exactly three pods")
