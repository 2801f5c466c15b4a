"""A running sandbox as the tests see it: the Kubernetes API, the gateway, its log and metrics."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

PROJECT = Path(__file__).resolve().parents[3]
NAMESPACE = "ai-inference"
HOST = "arithmetic.example.com"
OPTIONS = ("--ephemeral-ports", "--apply", str(PROJECT / "manifests" / "overlays" / "sandbox"))
SERVICE = f"arithmetic.{NAMESPACE}.svc.cluster.local"

Json = dict[str, Any]
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, seconds: float = 10.0, pause_seconds: float = 0.01) -> T:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause_seconds)
    return value


def sandbox_command(
    command: str, state: Path, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m sandbox …` as a user runs it, with `env` in the environment, too."""
    argv = [sys.executable, "-m", "sandbox", command, "--state", str(state), *options]
    variables = os.environ | (env or {})
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False, env=variables)


def make_bundle(bundles: Path, name: str) -> str:
    """A bundle that runs the stand-in; returns the image that names it."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    directory = bundles / digest
    directory.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("model_stand_in.py"), directory / "server.py")
    description = {"entrypoint": ["python", "server.py"], "env": {"BUNDLE": name, "PORT": "1"}, "labels": {}}
    (directory / "bundle.json").write_text(json.dumps(description))
    return f"registry.test/{name}@sha256:{digest}"


def pod_spec(image: str, *, env: dict[str, str] | None = None, container: Json | None = None, **more: Any) -> Json:
    """With fields of the pod, and of its only container, changed or added."""
    fields = {"HOST": "status.podIP", "VERSION": "metadata.labels['version']"}
    variables: list[Json] = [{"name": k, "valueFrom": {"fieldRef": {"fieldPath": v}}} for k, v in fields.items()]
    variables += [{"name": k, "value": v} for k, v in {"PORT": "8000", **(env or {})}.items()]
    server = {
        "name": "server",
        "image": image,
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8000}],
        "startupProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 1, "failureThreshold": 30},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
    }
    return {"containers": [server | (container or {})], "terminationGracePeriodSeconds": 5, **more}


class LiveSandbox:
    def __init__(self, state: Path, image: str) -> None:
        self.state = state
        self.image = image
        self.described: Json = json.loads((state / "sandbox.json").read_text())
        self.api = httpx.Client(base_url=self.described["api_url"], timeout=10)
        self.gateway = httpx.Client(base_url=self.described["gateway_url"], timeout=30, headers={"Host": HOST})

    def close(self) -> None:
        self.api.close()
        self.gateway.close()

    def create(self, path: str, body: Json) -> Json:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def patch(self, path: str, body: Json) -> None:
        answer = self.api.patch(path, json=body, headers={"Content-Type": "application/merge-patch+json"})
        assert answer.status_code == 200, answer.text

    def pod_path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/pods{'/' if name else ''}{name}"

    def create_pod(self, name: str, *, labels: dict[str, str] | None = None, image: str = "", **spec: Any) -> None:
        metadata = {"name": name, "labels": {"app": "lonely", "version": "0", **(labels or {})}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(image or self.image, **spec)}
        self.create(self.pod_path(), body)

    def pod(self, name: str) -> Json | None:
        answer = self.api.get(self.pod_path(name))
        return None if answer.status_code == 404 else dict(answer.json())

    def delete_pod(self, name: str) -> None:
        assert self.api.delete(self.pod_path(name)).status_code in (200, 202)

    def container(self, name: str) -> Json:
        """The container's status; empty before there is one."""
        pod = self.pod(name)
        return dict(pod["status"]["containerStatuses"][0]) if pod and pod["status"].get("containerStatuses") else {}

    def until_ready(self, name: str) -> Json:
        until(lambda: self.container(name).get("ready"), f"pod {name} is ready")
        pod = self.pod(name)
        assert pod
        return pod

    def log(self, name: str, **query: str) -> str:
        return self.api.get(f"{self.pod_path(name)}/log", params=query).text

    def deploy(self, version: str, replicas: int = 1) -> None:
        """A Deployment of one version, and its subset; returns when the pods are ready."""
        labels = {"app": "arithmetic", "version": version}
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000", "prometheus.io/path": "/metrics"}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"arithmetic-{version}", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": pod_spec(self.image),
                },
            },
        }
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
        self.create(path, deployment)
        status = f"{path}/arithmetic-{version}"
        until(
            lambda: self.api.get(status).json().get("status", {}).get("readyReplicas") == replicas, f"{version} ready"
        )

    def subsets(self, *versions: str) -> None:
        named = [{"name": f"v-{version}", "labels": {"version": version}} for version in (*versions, "none")]
        self.patch(self._istio("destinationrules"), {"spec": {"subsets": named}})

    def route(self, *http: Json) -> None:
        """Write the VirtualService's routes."""
        self.patch(self._istio("virtualservices"), {"spec": {"http": list(http)}})

    def weights(self, **weights: int) -> None:
        """`weights(one=90, two=10)`: one write to the route `primary`."""
        self.route(primary(**weights))

    def until_served(self, version: str) -> None:
        until(lambda: self.version() == version, f"version {version} answers", pause_seconds=0.001)

    def version(self, **headers: str) -> str:
        """Which version answers, or the status if none does."""
        answer = self.gateway.get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return str(answer.json()["version"]) if answer.status_code == 200 else str(answer.status_code)

    def log_entries(self, request_id: str) -> list[Json]:
        """The gateway's access log of one request, as far as it is written."""
        with Path(self.described["access_log"]).open() as lines:
            return [entry for entry in map(json.loads, lines) if entry["request_id"] == request_id]

    def until_logged(self, request_id: str, kind: str = "request", count: int = 1) -> list[Json]:
        def found() -> list[Json] | None:
            entries = [entry for entry in self.log_entries(request_id) if entry["type"] == kind]
            return entries if len(entries) >= count else None

        return until(found, f"{count} {kind} of {request_id} in the access log") or []

    def metric(self, sample_name: str, **labels: str) -> float:
        """The sum of the matching samples."""
        return sum(
            float(s.value) for s in self.samples() if s.name == sample_name and labels.items() <= s.labels.items()
        )

    def samples(self) -> Iterator[Any]:
        text = httpx.get(self.described["metrics_url"]).text
        for family in text_string_to_metric_families(text):
            yield from family.samples

    def kubectl(self, *arguments: str) -> str:
        argv = ["kubectl", "--kubeconfig", self.described["kubeconfig"], "-n", NAMESPACE, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout

    def _istio(self, plural: str) -> str:
        return f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/{plural}/arithmetic"


def destination(version: str, **more: Any) -> Json:
    return {"destination": {"host": SERVICE, "subset": f"v-{version}"}, **more}


def primary(**weights: int) -> Json:
    return {
        "name": "primary",
        "timeout": "0s",
        "retries": {"attempts": 1, "retryOn": "connect-failure,refused-stream"},
        "route": [destination(version, weight=weight) for version, weight in weights.items()],
    }


def up_options(bundles: Path) -> Sequence[str]:
    runtime = Path(sys.executable).parent
    return ("--runtime", "process", *OPTIONS, "--bundles", str(bundles), "--runtime-path", str(runtime))


def container_options() -> Sequence[str]:
    return ("--runtime", "docker", *OPTIONS)
