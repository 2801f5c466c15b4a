"""A version's Deployment is the template with what the version decides; its status is what the pods say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.cluster.deployment import manifest, revision_of, status
from sluice.errors import BadInput
from sluice.ports import WorkloadSpec

TEMPLATE: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"name": "model-version", "labels": {"team": "ml", "version": "none"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "model", "version": "none"}},
        "template": {
            "metadata": {"labels": {"version": "none"}, "annotations": {"prometheus.io/scrape": "true"}},
            "spec": {
                "containers": [
                    {"name": "proxy", "image": "proxy:1"},
                    {
                        "name": "server",
                        "image": "none",
                        "env": [{"name": "PORT", "value": "8000"}, {"name": "VERSION", "value": ""}],
                        "resources": {"limits": {"memory": "1Gi"}, "requests": {"ephemeral-storage": "1Gi"}},
                        "startupProbe": {"httpGet": {"path": "/livez", "port": 8000}},
                    },
                ],
            },
        },
    },
}
SPEC = WorkloadSpec(
    version="8f2c",
    image="registry.example.com/m@sha256:00",
    revision="r2",
    replicas=3,
    resources={"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
    environment={"SERVING_SLOTS": "4", "PORT": "9000"},
)
MADE = manifest(TEMPLATE, "m", "ai", SPEC)


def server() -> dict[str, Any]:
    found: dict[str, Any] = MADE["spec"]["template"]["spec"]["containers"][1]
    return found


def test_the_version_names_selects_and_labels_its_deployment() -> None:
    labels = {"app": "m", "version": "8f2c", "sluice.dev/model": "m"}
    assert MADE["metadata"] == {"name": "m-8f2c", "namespace": "ai", "labels": {"team": "ml", **labels}}
    assert MADE["spec"]["selector"] == {"matchLabels": {"app": "m", "version": "8f2c"}}
    assert MADE["spec"]["template"]["metadata"]["labels"] == labels
    assert MADE["spec"]["replicas"] == 3


def test_environment_goes_over_the_templates_and_names_what_runs() -> None:
    assert {entry["name"]: entry["value"] for entry in server()["env"]} == {
        "PORT": "9000",
        "SERVING_SLOTS": "4",
        "MODEL_ID": "m",
        "REVISION": "r2",
        "VERSION": "8f2c",
    }


def test_resources_are_requested_and_limited_except_cpu() -> None:
    assert server()["resources"] == {
        "requests": {"ephemeral-storage": "1Gi", "cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "1"},
    }


def test_everything_else_is_the_templates() -> None:
    assert server()["startupProbe"] == {"httpGet": {"path": "/livez", "port": 8000}}
    assert MADE["spec"]["template"]["spec"]["containers"][0] == {"name": "proxy", "image": "proxy:1"}
    assert MADE["spec"]["template"]["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}


@pytest.mark.parametrize("template", [{}, {"kind": "Deployment"}, {**TEMPLATE, "kind": "Pod"}])
def test_a_template_without_the_server_is_refused(template: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="no Deployment with a container named server"):
        manifest(template, "m", "ai", SPEC)


def test_a_template_that_mounts_no_cache_is_refused_for_a_server_that_needs_one() -> None:
    spec = replace(SPEC, environment={"MODEL_DIR": "/models/m/8f2c"})
    with pytest.raises(BadInput, match=r"mounts no model cache at /models.*manifests/components/model-cache"):
        manifest(TEMPLATE, "m", "ai", spec)


def test_a_deployment_says_its_revision() -> None:
    assert revision_of(MADE) == "r2"
    assert revision_of(TEMPLATE) == ""


def deployment(replicas: int = 1, **counts: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 2, **counts},
    }


def pod(state: dict[str, Any], conditions: tuple[dict[str, str], ...] = (), **container: Any) -> dict[str, Any]:
    found = {"name": "server", "image": "m@sha256:00", "ready": False, "restartCount": 0, "state": state, **container}
    return {"metadata": {"name": "m-1"}, "status": {"conditions": [*conditions], "containerStatuses": [found]}}


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message}}


WAITS = {
    "no pods": ([], "0 of 1 pods are ready; the others have not started yet"),
    "creating": ([pod({"waiting": {"reason": "ContainerCreating"}})], "m-1: ContainerCreating"),
    "first pull failed": (
        [pod({"waiting": {"reason": "ErrImagePull", "message": "no route"}})],
        "ErrImagePull: no route",
    ),
    "starting": ([pod({"running": {}}, started=False)], "m-1: its startup probe has not passed yet"),
    "started": ([pod({"running": {}}, started=True)], "m-1: its readiness probe does not pass"),
    "ended": ([pod(ended(1, "Traceback\nMemoryError"))], "m-1: it ended with exit code 1 (Error: MemoryError)"),
    "restarted once": (
        [pod({"running": {}}, started=False, restartCount=1, lastState=ended(137))],
        "startup probe has not passed yet, it ended with exit code 137 (Error) before",
    ),
    "unscheduled": (
        [pod({}, ({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no gpu"},))],
        "m-1 is not scheduled: Unschedulable: no gpu",
    ),
}


@pytest.mark.parametrize(("pods", "words"), WAITS.values(), ids=WAITS.keys())
def test_waiting_says_what_is_not_there_yet_in_the_pods_own_words(pods: list[dict[str, Any]], words: str) -> None:
    found = status(deployment(), pods)
    assert words in found.waiting_for
    assert found.failed == ""


FAILS = {
    "image": (
        pod({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}),
        "m-1: the image m@sha256:00 cannot be pulled (ImagePullBackOff: Back-off pulling)",
    ),
    "crash loop": (
        pod({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=2, lastState=ended(1, "no file")),
        "m-1 keeps crashing: 2 restarts, it ended with exit code 1 (Error: no file) before; see kubectl logs -p m-1",
    ),
    "crashes slowly": (pod({"running": {}}, restartCount=3), "m-1 keeps crashing: 3 restarts"),
}


@pytest.mark.parametrize(("found", "words"), FAILS.values(), ids=FAILS.keys())
def test_waiting_is_pointless_for_a_crash_loop_or_an_image_that_cannot_be_pulled(
    found: dict[str, Any], words: str
) -> None:
    assert words in status(deployment(), [found]).failed


def test_all_ready_waits_for_nothing() -> None:
    ready = pod({"running": {}}, ready=True, started=True, restartCount=4)
    found = status(deployment(readyReplicas=1, updatedReplicas=1), [ready])
    assert (found.ready, found.restarts, found.waiting_for, found.failed) == (1, 4, "", "")


def test_enough_ready_pods_are_enough_whatever_another_does() -> None:
    crashing = pod({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=9)
    assert status(deployment(readyReplicas=1, updatedReplicas=1), [crashing]).failed == ""


def test_ready_pods_of_an_older_template_do_not_count() -> None:
    assert status(deployment(2, readyReplicas=2, updatedReplicas=1), []).ready == 1


def test_a_status_of_an_earlier_generation_does_not_count() -> None:
    assert status(deployment(readyReplicas=1, updatedReplicas=1, observedGeneration=1), []).ready == 0


def test_pods_that_are_ending_have_nothing_to_say() -> None:
    ending = pod({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=9)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert status(deployment(), [ending]).failed == ""


def test_pods_that_may_not_be_created_are_explained() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpu"}
    assert "exceeded quota: gpu" in status(deployment(conditions=[refused]), []).waiting_for
