"""The commands of a real kubectl against the sandbox's API server, controllers and a stand-in node."""

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.contract.kubernetes_api.api_processes import ApiServer, controllers, stand_in_node
from tests.contract.kubernetes_api.objects import deployment, virtual_service

KUBECTL = shutil.which("kubectl")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")]

Kubectl = Callable[..., str]


class _Logs(http.server.BaseHTTPRequestHandler):
    """A kubelet's log endpoint: answers with the path that was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"log of {self.path}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def log_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Logs) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def cluster(server: ApiServer, log_port: int) -> Iterator[ApiServer]:
    with controllers(server.kubeconfig), stand_in_node(server.kubeconfig, log_port):
        yield server


@pytest.fixture
def kubectl(cluster: ApiServer, namespace: str, tmp_path: Path) -> Kubectl:
    """Runs kubectl in this test's namespace; fails unless it ends as expected. `manifest` goes to its input."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path)}

    def run(*arguments: str, manifest: Any = None, code: int = 0) -> str:
        command = [str(KUBECTL), "-n", namespace, *arguments]
        text = None if manifest is None else yaml.safe_dump(manifest)
        ended = subprocess.run(
            command, input=text, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout + ended.stderr

    return run


def gateway() -> dict[str, Any]:
    server = {"hosts": ["*"], "port": {"name": "http", "number": 80, "protocol": "HTTP"}}
    return _manifest("networking.istio.io/v1", "Gateway", {"servers": [server]})


def _manifest(api_version: str, kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def _pod(image: str) -> dict[str, Any]:
    return _manifest("v1", "Pod", {"containers": [{"name": "c", "image": image}]})


def _rule(subset: str) -> dict[str, Any]:
    subsets = [{"name": subset, "labels": {"version": subset}}]
    return _manifest("networking.istio.io/v1", "DestinationRule", {"host": "m", "subsets": subsets})


def _service(port: int) -> dict[str, Any]:
    return _manifest("v1", "Service", {"selector": {"app": "m"}, "ports": [{"port": port, "targetPort": "http"}]})


def _lease(holder: str) -> dict[str, Any]:
    return _manifest("coordination.k8s.io/v1", "Lease", {"holderIdentity": holder, "leaseDurationSeconds": 30})


def _config(value: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": value}}


def _autoscaler(maximum: int) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": maximum}
    return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", spec)


APPLIED = {
    "deployments": (deployment("x"), deployment("x", value="2")),
    "pods": (_pod("nginx:1"), _pod("nginx:2")),
    "services": (_service(80), _service(81)),
    "virtualservices": (virtual_service("x"), virtual_service("x", weight=90)),
    "destinationrules": (_rule("v-a"), _rule("v-b")),
    "gateways": (gateway(), {**gateway(), "spec": {**gateway()["spec"], "selector": {"istio": "ingressgateway"}}}),
    "leases": (_lease("r1"), _lease("r2")),
    "configmaps": (_config("1"), _config("2")),
    "horizontalpodautoscalers": (_autoscaler(2), _autoscaler(3)),
}


@pytest.mark.parametrize("plural", APPLIED)
def test_apply_creates_changes_and_knows_when_nothing_changed(plural: str, kubectl: Kubectl) -> None:
    first, second = APPLIED[plural]
    said = [kubectl("apply", "-f", "-", manifest=one).splitlines()[0].split()[-1] for one in (first, second, second)]
    assert said == ["created", "configured", "unchanged"]
    stored = json.loads(kubectl("get", plural, "x", "-o", "json"))
    assert _within(second.get("spec", second.get("data")), stored.get("spec", stored.get("data")))


def _within(part: Any, whole: Any) -> bool:
    """Whether the server's object says all that the manifest says; it may add defaults."""
    if isinstance(part, dict):
        return all(_within(value, whole.get(key)) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(_within, part, whole))
    return bool(part == whole)


def test_apply_refuses_a_misspelt_field(kubectl: Kubectl) -> None:
    manifest = virtual_service()
    manifest["spec"]["htttp"] = []
    said = kubectl("apply", "-f", "-", manifest=manifest, code=1)
    assert 'unknown field "spec.htttp"' in said


def test_get_prints_the_columns_of_the_kind(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment(replicas=2))
    kubectl("rollout", "status", "deploy/m", "--timeout=20s")
    header, row = kubectl("get", "deploy").splitlines()
    assert (header.split(), row.split()[:4]) == (
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        ["m", "2/2", "2", "2"],
    )
    wide = kubectl("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert [line.split()[1:3] for line in wide[1:]] == [["1/1", "Running"]] * 2
    assert yaml.safe_load(kubectl("get", "deploy", "m", "-o", "yaml"))["spec"]["replicas"] == 2


def test_describe_shows_the_object_and_its_events(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment())
    kubectl("wait", "--for=condition=Available", "deploy/m", "--timeout=20s")
    said = kubectl("describe", "deploy", "m")
    assert "1 desired | 1 updated | 1 total | 1 available | 0 unavailable" in said
    assert "ScalingReplicaSet" in said
    kubectl("apply", "-f", "-", manifest=virtual_service())
    assert "m.example.com" in kubectl("describe", "vs", "v")


def test_logs_come_from_the_node(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", manifest=deployment())
    kubectl("wait", "--for=condition=Available", "deploy/m", "--timeout=20s")
    said = kubectl("logs", "deploy/m", "--tail=5")
    assert said.startswith(f"log of /containerLogs/{namespace}/m-")
    assert said.strip().endswith("/c?tailLines=5")


def test_rollout_status_waits_for_the_new_template(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment(replicas=2))
    kubectl("apply", "-f", "-", manifest=deployment(replicas=2, value="2"))
    assert 'deployment "m" successfully rolled out' in kubectl("rollout", "status", "deploy/m", "--timeout=20s")
    pods = json.loads(kubectl("get", "pods", "-o", "json"))["items"]
    values = {
        pod["spec"]["containers"][0]["env"][0]["value"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
    }
    assert values == {"2"}


def test_rollout_undo_returns_to_the_template_before(kubectl: Kubectl) -> None:
    for value in ("1", "2"):
        kubectl("apply", "-f", "-", manifest=deployment(value=value))
        kubectl("rollout", "status", "deploy/m", "--timeout=20s")
    kubectl("rollout", "undo", "deploy/m")
    kubectl("rollout", "status", "deploy/m", "--timeout=20s")
    found = json.loads(kubectl("get", "deploy", "m", "-o", "json"))
    assert found["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "1"
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_scale_patch_and_annotate_change_the_object(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment())
    kubectl("scale", "deploy/m", "--replicas=3")
    kubectl("wait", "--for=jsonpath={.status.availableReplicas}=3", "deploy/m", "--timeout=20s")
    kubectl("apply", "-f", "-", manifest=virtual_service())
    patch = [{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 90}]
    kubectl("patch", "vs", "v", "--type=json", "-p", json.dumps(patch))
    kubectl("annotate", "vs", "v", "a=b")
    found = json.loads(kubectl("get", "vs", "v", "-o", "json"))
    assert found["spec"]["http"][0]["route"][0]["weight"] == 90
    assert found["metadata"]["annotations"]["a"] == "b"


def test_delete_takes_the_pods_along(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment())
    kubectl("wait", "--for=condition=Available", "deploy/m", "--timeout=20s")
    kubectl("delete", "deploy", "m", "--cascade=foreground", "--timeout=20s")
    assert "No resources found" in kubectl("get", "deploy,rs,pods")


def test_get_watch_prints_each_change(
    kubectl: Kubectl, cluster: ApiServer, api: httpx.Client, namespace: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(tmp_path)}
    kubectl("apply", "-f", "-", manifest=_config("1"))
    command = [str(KUBECTL), "-n", namespace, "get", "configmaps", "-w"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(2)]
        change = {"data": {"a": "1", "b": "2"}}
        headers = {"content-type": "application/merge-patch+json"}
        api.patch(f"/api/v1/namespaces/{namespace}/configmaps/x", json=change, headers=headers).raise_for_status()
        lines.append(watching.stdout.readline())
        watching.terminate()
    assert [line.split()[:2] for line in lines] == [["NAME", "DATA"], ["x", "1"], ["x", "2"]]


def test_explain_reads_the_schema(kubectl: Kubectl) -> None:
    assert "VirtualService" in kubectl("explain", "vs.spec.http", "--api-version=networking.istio.io/v1")


def test_diff_shows_what_apply_would_change(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", manifest=deployment())
    assert 'value: "2"' in kubectl("diff", "-f", "-", manifest=deployment(value="2"), code=1)


def test_server_side_apply_is_refused_by_name(kubectl: Kubectl) -> None:
    said = kubectl("apply", "--server-side", "-f", "-", manifest=virtual_service(), code=1)
    assert "without server-side apply" in said
