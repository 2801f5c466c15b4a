"""The life of a pod on the node, as the API shows it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_sandbox import NAMESPACE, PROJECT, LiveSandbox, until

from sandbox.processes import ProcessIdentity

pytestmark = pytest.mark.slow


def state(sandbox: LiveSandbox, name: str) -> dict[str, Any]:
    return dict(sandbox.container(name).get("state") or {})


def waiting_reason(sandbox: LiveSandbox, name: str) -> str:
    return str((state(sandbox, name).get("waiting") or {}).get("reason"))


def process_of(sandbox: LiveSandbox, pod: dict[str, Any]) -> ProcessIdentity:
    identity = ProcessIdentity.read(sandbox.state / "node" / "pids" / f"{pod['metadata']['uid']}-server.json")
    assert identity
    return identity


def conditions(pod: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in pod["status"]["conditions"]}


def test_a_pod_becomes_ready_on_an_address_of_its_own(sandbox: LiveSandbox) -> None:
    for name in ("ready-a", "ready-b"):
        sandbox.create_pod(name)
    pods = [sandbox.until_ready(name) for name in ("ready-a", "ready-b")]
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    assert all(pod["status"]["podIP"].startswith("127.") for pod in pods)
    assert all(pod["status"]["phase"] == "Running" and pod["spec"]["nodeName"] == "sandbox" for pod in pods)
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    assert [conditions(pods[0])[kind] for kind in kinds] == ["True"] * 4


def test_the_environment_is_resolved(sandbox: LiveSandbox) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    sandbox.create(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"key": "text"}})
    env = [
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PORT", "value": "8000"},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "key"}}},
        {"name": "ADDRESS", "value": "http://$(HOST):$(PORT)/$(UNKNOWN)"},
        {"name": "FILE", "value": "/etc/settings/key"},
    ]
    mounts = [{"name": "settings", "mountPath": "/etc/settings"}, {"name": "tmp", "mountPath": "/tmp"}]
    probe = {"httpGet": {"path": "/readyz", "port": 8000}, "periodSeconds": 1}
    container = {"name": "server", "image": sandbox.image, "env": env, "volumeMounts": mounts, "readinessProbe": probe}
    volumes = [{"name": "settings", "configMap": {"name": "c"}}, {"name": "tmp", "emptyDir": {}}]
    sandbox.create_pod("environment", containers=[container], volumes=volumes)
    address = sandbox.until_ready("environment")["status"]["podIP"]
    seen = sandbox.api.get(f"http://{address}:8000/").json()["env"]
    assert (seen["FROM_MAP"], seen["ADDRESS"]) == ("text", f"http://{address}:8000/$(UNKNOWN)")
    assert (seen["BUNDLE"], seen["HOSTNAME"]) == ("stand-in", "environment")
    with open(seen["FILE"]) as file:
        assert file.read() == "text"
    assert os.path.isdir(seen["TMPDIR"])


def test_a_directory_of_the_machine_is_found_where_the_pod_mounts_it(sandbox: LiveSandbox, tmp_path: Path) -> None:
    mount = {"volumeMounts": [{"name": "cache", "mountPath": "/models", "readOnly": True}]}
    volumes = [{"name": "cache", "hostPath": {"path": str(tmp_path), "type": "Directory"}}]
    sandbox.create_pod("cached", env={"MODEL_DIR": "/models/r2"}, container=mount, volumes=volumes)
    address = sandbox.until_ready("cached")["status"]["podIP"]
    assert sandbox.api.get(f"http://{address}:8000/").json()["env"]["MODEL_DIR"] == f"{tmp_path}/r2"


def test_a_missing_image_is_named(sandbox: LiveSandbox) -> None:
    image = f"registry.test/absent@sha256:{'0' * 64}"
    sandbox.create_pod("absent", image=image)
    until(lambda: waiting_reason(sandbox, "absent") == "ImagePullBackOff", "the pull is backed off")
    pod = sandbox.pod("absent")
    assert pod
    assert image in state(sandbox, "absent")["waiting"]["message"]
    assert (pod["status"]["phase"], conditions(pod)["Ready"]) == ("Pending", "False")
    sandbox.delete_pod("absent")
    until(lambda: sandbox.pod("absent") is None, "the pod is removed")


def test_a_missing_config_map_is_named(sandbox: LiveSandbox) -> None:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "nowhere", "key": "k"}}}]
    sandbox.create_pod("unconfigured", containers=[{"name": "server", "image": sandbox.image, "env": env}])
    until(lambda: waiting_reason(sandbox, "unconfigured") == "CreateContainerConfigError", "the error is shown")
    assert 'configmap "nowhere" not found' in state(sandbox, "unconfigured")["waiting"]["message"]
    sandbox.delete_pod("unconfigured")


def test_a_crashing_container_is_restarted_with_back_off(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("crashing", env={"EXIT_CODE": "3"})
    until(lambda: waiting_reason(sandbox, "crashing") == "CrashLoopBackOff", "the loop is backed off")
    until(lambda: sandbox.container("crashing")["restartCount"] >= 2, "it is restarted")
    last = sandbox.container("crashing")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    assert "version 0 serves" in sandbox.log("crashing", previous="true")
    sandbox.delete_pod("crashing")
    until(lambda: sandbox.pod("crashing") is None, "the pod is removed")


def test_a_container_that_dies_later_loses_its_readiness_at_once(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("dying")
    pod = sandbox.until_ready("dying")
    process_of(sandbox, pod).signal(signal.SIGKILL)
    until(lambda: sandbox.container("dying")["restartCount"] == 1, "it is restarted")
    assert sandbox.container("dying")["lastState"]["terminated"]["exitCode"] == 137
    sandbox.until_ready("dying")


def test_a_container_that_is_not_ready_stays_out(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("never-ready", env={"NEVER_READY": "1"})
    until(lambda: sandbox.container("never-ready").get("started"), "it started")
    time.sleep(0.5)
    pod = sandbox.pod("never-ready")
    assert pod
    assert (pod["status"]["phase"], conditions(pod)["Ready"]) == ("Running", "False")


def test_a_failed_liveness_probe_restarts_the_container(sandbox: LiveSandbox) -> None:
    env = [
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PORT", "value": "8000"},
    ]
    probe = {"httpGet": {"path": "/status/500", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    container = {"name": "server", "image": sandbox.image, "env": env, "livenessProbe": probe}
    sandbox.create_pod("unhealthy", containers=[container])
    until(lambda: sandbox.container("unhealthy").get("restartCount"), "it is restarted")
    sandbox.delete_pod("unhealthy")


def test_deletion_takes_readiness_first_then_asks_then_removes(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("leaving-slowly", env={"END_SECONDS": "0.5"})
    process = process_of(sandbox, sandbox.until_ready("leaving-slowly"))
    sandbox.delete_pod("leaving-slowly")
    until(lambda: not sandbox.container("leaving-slowly").get("ready"), "it is not ready")
    assert process.alive()
    until(lambda: sandbox.pod("leaving-slowly") is None, "it is removed")
    assert not process.alive()


def test_what_does_not_end_in_its_grace_period_is_killed(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("stubborn", env={"STUBBORN": "1"}, terminationGracePeriodSeconds=1)
    process = process_of(sandbox, sandbox.until_ready("stubborn"))
    began = time.monotonic()
    sandbox.delete_pod("stubborn")
    until(lambda: sandbox.pod("stubborn") is None, "it is removed")
    assert 0.9 < time.monotonic() - began < 3
    assert not process.alive()


def test_a_pre_stop_sleep_delays_the_signal(sandbox: LiveSandbox) -> None:
    env = [
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PORT", "value": "8000"},
    ]
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    container = {"name": "server", "image": sandbox.image, "env": env, "lifecycle": hook}
    sandbox.create_pod("sleeping", containers=[container])
    pod = sandbox.until_ready("sleeping")
    began = time.monotonic()
    sandbox.delete_pod("sleeping")
    until(lambda: not sandbox.container("sleeping").get("ready"), "it is not ready")
    assert "asked to end" not in sandbox.log("sleeping")
    assert process_of(sandbox, pod).alive()
    until(lambda: sandbox.pod("sleeping") is None, "it is removed")
    assert time.monotonic() - began > 0.9


def test_a_pod_that_asks_for_a_gpu_is_not_scheduled(sandbox: LiveSandbox) -> None:
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    sandbox.create_pod("greedy", containers=[{"name": "server", "image": sandbox.image, "resources": limits}])

    def reason() -> str:
        pod = sandbox.pod("greedy")
        assert pod
        return " ".join(condition.get("message", "") for condition in pod["status"].get("conditions") or [])

    until(lambda: "Insufficient nvidia.com/gpu" in reason(), "the condition says why")
    sandbox.delete_pod("greedy")


def test_logs_are_served_with_tail_and_times(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("talking")
    sandbox.until_ready("talking")
    assert sandbox.log("talking") == "version 0 serves\n"
    assert sandbox.log("talking", tailLines="0") == ""
    stamp, text = sandbox.log("talking", timestamps="true").split(" ", 1)
    assert stamp.endswith("Z")
    assert text == "version 0 serves\n"


def test_the_workloads_template_runs(sandbox: LiveSandbox) -> None:
    """Named ports, probes, volumes and hooks of manifests/base/workload.yaml are what the node can do."""
    deployment = yaml.safe_load((PROJECT / "manifests" / "base" / "workload.yaml").read_text())
    labels = {"app": "templated", "version": "9"}
    deployment["metadata"] = {"name": "templated-9", "labels": labels}
    deployment["spec"]["selector"]["matchLabels"] = labels
    deployment["spec"]["template"]["metadata"]["labels"] = labels
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = sandbox.image
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    sandbox.create(path, deployment)
    status = f"{path}/templated-9"
    until(lambda: sandbox.api.get(status).json().get("status", {}).get("readyReplicas") == 1, "it is ready")
    assert sandbox.api.delete(status).status_code == 200


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_shows_pods_logs_and_events(sandbox: LiveSandbox) -> None:
    sandbox.create_pod("shown")
    sandbox.until_ready("shown")
    assert sandbox.kubectl("logs", "shown") == "version 0 serves\n"
    assert "1/1     Running" in sandbox.kubectl("get", "pod", "shown")
    described = sandbox.kubectl("describe", "pod", "shown")
    assert "Successfully assigned" in described
    assert "Started container server" in described
    sandbox.kubectl("delete", "pod", "shown", "--timeout=10s")
    assert sandbox.pod("shown") is None
