"""Versioned Deployments on a real API; the pods are a small HTTP server, and behave as each test asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster.api import DEPLOYMENT, POD, Api, Missing
from sluice.cluster.workloads import KubernetesWorkloads
from sluice.errors import BadInput, DeadlineExceeded
from sluice.ports import WorkloadSpec, WorkloadStatus
from tests.contract.cluster.conftest import eventually
from tests.contract.conftest import ROOT

TEMPLATE = ROOT / "manifests/base/workload.yaml"
IMAGE = f"sandbox/m@sha256:{'a' * 64}"
SERVER = """
import http.server, os, sys, time
behaviour = os.environ["BEHAVIOUR"]
if behaviour == "crash":
    sys.exit("cannot load: no such file")
if behaviour == "hang":
    time.sleep(3600)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if behaviour == "unready" and self.path == "/readyz" else 200)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
SPEC = WorkloadSpec(
    version="8f2c",
    image=IMAGE,
    revision="r2",
    replicas=1,
    resources={"cpu": "100m", "memory": "64Mi"},
    environment={"BEHAVIOUR": "serve"},
)


@pytest.fixture
def workloads(client: ApiClient, namespace: str) -> KubernetesWorkloads:
    return KubernetesWorkloads(client, "m", namespace, TEMPLATE, removal=timedelta(seconds=30))


@pytest.fixture
def running(node: Path) -> None:
    """Pods run, and there is an image for them."""
    image = node / ("a" * 64)
    image.mkdir(exist_ok=True)
    (image / "server.py").write_text(SERVER)
    (image / "bundle.json").write_text(json.dumps({"entrypoint": ["python", "server.py"], "env": {}}))


def behaving(behaviour: str) -> WorkloadSpec:
    return replace(SPEC, environment={"BEHAVIOUR": behaviour})


async def deployment(api: Api, namespace: str) -> dict[str, Any]:
    return dict(await api.get(DEPLOYMENT, namespace, "m-8f2c"))


async def status_with(workloads: KubernetesWorkloads, holds: Callable[[WorkloadStatus], object]) -> WorkloadStatus:
    async def wanted() -> WorkloadStatus | None:
        found = await workloads.status("8f2c")
        return found if holds(found) else None

    found: WorkloadStatus = await eventually(wanted)
    return found


async def test_ensuring_twice_writes_once(workloads: KubernetesWorkloads, api: Api, namespace: str) -> None:
    await workloads.ensure(SPEC)
    before = await deployment(api, namespace)
    await workloads.ensure(SPEC)
    after = await deployment(api, namespace)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1
    assert after["spec"] == before["spec"]


async def test_ensuring_puts_right_what_a_person_changed_and_keeps_what_is_theirs(
    workloads: KubernetesWorkloads, api: Api, namespace: str
) -> None:
    await workloads.ensure(SPEC)
    edits: list[dict[str, Any]] = [
        {"op": "replace", "path": "/spec/replicas", "value": 0},
        {"op": "add", "path": "/metadata/annotations/team", "value": "ml"},
    ]
    await eventually(lambda: _annotated(api, namespace))
    await api.patch(DEPLOYMENT, namespace, "m-8f2c", edits)
    await workloads.ensure(SPEC)
    after = await deployment(api, namespace)
    assert after["spec"]["replicas"] == 1
    assert after["metadata"]["annotations"]["team"] == "ml"


async def _annotated(api: Api, namespace: str) -> Any:
    """The controllers have annotated it, so that there is a place for more annotations."""
    return (await deployment(api, namespace))["metadata"].get("annotations")


async def test_a_new_image_replaces_the_old_one(workloads: KubernetesWorkloads, api: Api, namespace: str) -> None:
    await workloads.ensure(SPEC)
    await workloads.ensure(replace(SPEC, image=f"sandbox/m@sha256:{'b' * 64}"))
    (server,) = (await deployment(api, namespace))["spec"]["template"]["spec"]["containers"]
    assert server["image"].endswith("b" * 64)


async def test_versions_are_those_of_the_model(
    workloads: KubernetesWorkloads, client: ApiClient, namespace: str
) -> None:
    other = KubernetesWorkloads(client, "other", namespace, TEMPLATE)
    await other.ensure(replace(SPEC, version="77aa"))
    await workloads.ensure(SPEC)
    await workloads.ensure(replace(SPEC, version="41ab"))
    assert await workloads.versions() == ["41ab", "8f2c"]


async def test_a_missing_version_is_named(workloads: KubernetesWorkloads, namespace: str) -> None:
    with pytest.raises(Missing, match=f"Deployment {namespace}/m-8f2c does not exist"):
        await workloads.status("8f2c")


async def test_removing_what_is_not_there_does_nothing(workloads: KubernetesWorkloads) -> None:
    await workloads.remove("8f2c")


async def test_a_template_that_is_no_deployment_is_refused(client: ApiClient, namespace: str, tmp_path: Path) -> None:
    for name, content in {"absent.yaml": None, "list.yaml": "- a", "broken.yaml": "{"}.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(BadInput, match=name):
            await KubernetesWorkloads(client, "m", namespace, tmp_path / name).ensure(SPEC)


@pytest.mark.slow
@pytest.mark.usefixtures("running")
async def test_ready_pods_wait_for_nothing_and_know_their_version(
    workloads: KubernetesWorkloads, api: Api, namespace: str
) -> None:
    await workloads.ensure(replace(SPEC, replicas=2))
    assert "0 of 2 pods are ready" in (await workloads.status("8f2c")).waiting_for
    found = await status_with(workloads, lambda status: status.ready == 2)
    assert found == WorkloadStatus(desired=2, ready=2, restarts=0, waiting_for="")
    pods = await api.find(POD, namespace, "sluice.dev/model=m,version=8f2c")
    environments = [{e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]} for pod in pods]
    assert [(e["MODEL_ID"], e["REVISION"], e["VERSION"]) for e in environments] == [("m", "r2", "8f2c")] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("running")
async def test_an_image_that_does_not_exist_is_said_so(workloads: KubernetesWorkloads) -> None:
    await workloads.ensure(replace(SPEC, image=f"sandbox/m@sha256:{'f' * 64}"))
    found = await status_with(workloads, lambda status: status.failed)
    assert "ffff cannot be pulled (ImagePullBackOff" in found.failed
    assert "0 of 1 pods are ready" in found.waiting_for


@pytest.mark.slow
@pytest.mark.usefixtures("running")
async def test_a_crash_loop_is_said_so_with_the_exit_code(workloads: KubernetesWorkloads) -> None:
    await workloads.ensure(behaving("crash"))
    found = await status_with(workloads, lambda status: status.failed)
    assert "keeps crashing" in found.failed
    assert "it ended with exit code 1 (Error" in found.failed
    assert found.restarts >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(("behaviour", "probe"), [("hang", "startup"), ("unready", "readiness")])
async def test_a_pod_that_never_gets_ready_names_its_probe(
    workloads: KubernetesWorkloads, behaviour: str, probe: str
) -> None:
    await workloads.ensure(behaving(behaviour))
    found = await status_with(workloads, lambda status: f"its {probe} probe" in status.waiting_for)
    assert (found.ready, found.failed) == (0, "")


@pytest.mark.slow
@pytest.mark.usefixtures("running")
async def test_removing_waits_until_the_pods_are_gone(workloads: KubernetesWorkloads, api: Api, namespace: str) -> None:
    await workloads.ensure(SPEC)
    await status_with(workloads, lambda status: status.ready == 1)
    await workloads.remove("8f2c")
    assert await api.find(POD, namespace, "app=m") == []
    assert await workloads.versions() == []


@pytest.mark.slow
@pytest.mark.usefixtures("running")
async def test_a_removal_that_takes_too_long_names_what_is_left(
    workloads: KubernetesWorkloads, client: ApiClient, namespace: str
) -> None:
    await workloads.ensure(SPEC)
    await status_with(workloads, lambda status: status.ready == 1)
    hasty = KubernetesWorkloads(client, "m", namespace, TEMPLATE, removal=timedelta())
    with pytest.raises(
        DeadlineExceeded, match=rf"removal of {namespace}/m-8f2c: pod/m-8f2c-\S+, deployment/m-8f2c still"
    ):
        await hasty.remove("8f2c")
    await workloads.remove("8f2c")
