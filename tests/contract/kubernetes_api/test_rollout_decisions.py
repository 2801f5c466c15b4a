"""Decisions of the Deployment, ReplicaSet and EndpointSlice controllers, as functions of the objects they see."""

from datetime import UTC, datetime, timedelta

import pytest

from sandbox.controllers import deployments, endpoint_slices, replica_sets
from sandbox.controllers.plan import REPLICA_SETS, Create, Delete, Patch, Plan
from sandbox.kubernetes_api import ENDPOINT_SLICES, PODS, Object
from tests.contract.kubernetes_api.objects import deployment

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
EARLIER = "2026-01-01T11:00:00Z"


def stored(item: Object, uid: str) -> Object:
    metadata = {"namespace": "n", "uid": uid, "resourceVersion": "7", "generation": 1, "creationTimestamp": EARLIER}
    return {**item, "metadata": {**metadata, **item["metadata"]}}


def rollout(replicas: int, value: str = "2", **strategy: object) -> Object:
    return stored(deployment(replicas=replicas, value=value, strategy=strategy), "d")


def replica_set(value: str, replicas: int, available: int) -> Object:
    template = deployment(value=value)["spec"]["template"]
    labels = {**template["metadata"]["labels"], deployments.HASH_LABEL: f"hash{value}"}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {**template, "metadata": {"labels": labels}},
    }
    counts = {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}
    about = {"revision": value, "desired-replicas": "4", "max-replicas": "5"}
    annotations = {f"deployment.kubernetes.io/{key}": text for key, text in about.items()}
    metadata = {"name": f"m-{value}", "annotations": annotations}
    return stored({"metadata": metadata, "spec": spec, "status": counts}, f"rs-{value}")


def scaled(plan: Plan) -> dict[str, int]:
    """The replicas that the plan gives to each ReplicaSet, new ones too."""
    found = {}
    for write in plan.writes:
        if isinstance(write, Patch) and write.resource is REPLICA_SETS and "spec" in write.changes:
            found[write.item["metadata"]["name"]] = write.changes["spec"]["replicas"]
        if isinstance(write, Create) and write.resource is REPLICA_SETS:
            found["created"] = write.body["spec"]["replicas"]
    return found


def test_a_new_deployment_gets_one_replica_set_with_all_replicas() -> None:
    assert scaled(deployments.reconcile(rollout(3), [], [], NOW)) == {"created": 3}


def test_a_new_template_starts_with_the_surge() -> None:
    plan = deployments.reconcile(rollout(4), [replica_set("1", 4, 4)], [], NOW)
    assert scaled(plan) == {"created": 1}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((4, 4), (1, 0), {"m-1": 3}),
        ((4, 4), (1, 1), {"m-1": 2}),
        ((3, 3), (1, 0), {"m-2": 2}),
        ((3, 3), (2, 0), {}),
        ((1, 1), (4, 4), {"m-1": 0}),
        ((4, 0), (1, 0), {"m-1": 3}),
    ],
    ids=["one unavailable", "one is ready", "room for one more", "waits", "the last old one", "idle old ones go first"],
)
def test_replicas_move_within_the_bounds(old: tuple[int, int], new: tuple[int, int], expected: dict[str, int]) -> None:
    """maxSurge and maxUnavailable of four pods are one pod each."""
    plan = deployments.reconcile(rollout(4), [replica_set("1", *old), replica_set("2", *new)], [], NOW)
    assert scaled(plan) == expected


def test_recreate_waits_for_the_old_pods() -> None:
    item, old = rollout(2, type="Recreate"), replica_set("1", 0, 0)
    pod = stored({"metadata": {"name": "p", "ownerReferences": [{"uid": "rs-1", "controller": True}]}}, "p")
    assert scaled(deployments.reconcile(item, [old], [pod], NOW)) == {}
    assert scaled(deployments.reconcile(item, [old], [], NOW)) == {"created": 2}


def test_a_paused_deployment_is_left_alone() -> None:
    item = rollout(2)
    item["spec"]["paused"] = True
    assert scaled(deployments.reconcile(item, [replica_set("1", 2, 2)], [], NOW)) == {}


def test_the_deadline_counts_from_the_last_progress() -> None:
    item, new = rollout(1), replica_set("2", 1, 0)
    item["spec"]["progressDeadlineSeconds"] = 60
    item["status"] = status_of(deployments.reconcile(item, [new], [], NOW))
    waiting = deployments.reconcile(item, [new], [], NOW + timedelta(seconds=20))
    assert waiting.again_seconds == 40
    late = status_of(deployments.reconcile(item, [new], [], NOW + timedelta(seconds=61)))
    reasons = {one["type"]: one["reason"] for one in late["conditions"]}
    assert reasons["Progressing"] == "ProgressDeadlineExceeded"


def status_of(plan: Plan) -> Object:
    (patch,) = [one for one in plan.writes if isinstance(one, Patch) and one.subresource == "status"]
    found: Object = patch.changes["status"]
    return found


def pod(name: str, *, ready: bool, owner: str = "rs-1", created: str = EARLIER, **metadata: object) -> Object:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": EARLIER}]
    item = {
        "metadata": {"name": name, "labels": {"app": "m"}, "creationTimestamp": created, **metadata},
        "spec": {**deployment()["spec"]["template"]["spec"], "nodeName": "node"},
        "status": {"phase": "Running", "podIP": f"127.0.0.{len(name)}", "conditions": conditions},
    }
    return stored(item, f"uid-{name}")


def test_surplus_pods_go_in_the_order_of_their_worth() -> None:
    pods = [
        pod("old", ready=True),
        pod("young", ready=True, created="2026-01-01T11:59:00Z"),
        pod("broken", ready=False),
    ]
    gone = []
    for wanted in (2, 1):
        plan = replica_sets.reconcile(replica_set("1", wanted, 0), pods, NOW)
        (deleted, *_) = [one.item for one in plan.writes if isinstance(one, Delete)]
        gone.append(deleted["metadata"]["name"])
        pods.remove(deleted)
    assert gone == ["broken", "young"]


def test_a_terminating_pod_is_replaced_before_it_is_gone() -> None:
    going = pod("going", ready=True, deletionTimestamp=EARLIER)
    plan = replica_sets.reconcile(replica_set("1", 1, 1), [going], NOW)
    assert [one.resource for one in plan.writes if isinstance(one, Create)] == [PODS]


def test_a_pod_is_available_after_its_minimum_time() -> None:
    item = replica_set("1", 1, 0)
    item["spec"]["minReadySeconds"] = 3605
    plan = replica_sets.reconcile(item, [pod("p", ready=True)], NOW)
    assert plan.again_seconds == 5


def service(target: object) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": target, "protocol": "TCP"}]
    return stored({"metadata": {"name": "s"}, "spec": {"selector": {"app": "m"}, "ports": ports}}, "s")


def slices(target: object, pods: list[Object]) -> list[Object]:
    plan = endpoint_slices.reconcile(service(target), pods, [], NOW)
    return [one.body for one in plan.writes if isinstance(one, Create) and one.resource is ENDPOINT_SLICES]


def test_a_terminating_pod_serves_and_is_not_ready() -> None:
    (found,) = slices("http", [pod("p", ready=True, deletionTimestamp=EARLIER)])
    assert found["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_pods_with_other_numbers_of_a_named_port_are_in_slices_of_their_own() -> None:
    other = pod("other", ready=True)
    other["spec"] = {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]}
    found = slices("http", [pod("p", ready=True), other])
    assert sorted(one["ports"][0]["port"] for one in found) == [7860, 8080]


def test_unchanged_endpoints_are_not_written() -> None:
    pods = [pod("p", ready=True)]
    (created,) = slices("http", pods)
    present = stored({**created, "metadata": {**created["metadata"], "name": "s-1"}}, "slice")
    assert endpoint_slices.reconcile(service("http"), pods, [present], NOW).writes == ()
