"""One version's Deployment, made from the model's template; and its pods' state in their own words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sluice.cluster.coordinates import Document
from sluice.errors import BadInput
from sluice.ports import MODEL_DIR, MODELS, WorkloadSpec, WorkloadStatus
from sluice.release import PREFIX

MODEL_LABEL = PREFIX + "model"
SERVER = "server"
"""The container that runs the version's image."""
CRASHES = 3
"""Restarts of a container that is not ready from which on waiting is pointless."""
UNPULLABLE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})

_REQUESTED_ONLY = ("cpu",)
"""Resources without a limit: one on cpu slows a server down although the node idles."""


def name_of(model: str, version: str) -> str:
    return f"{model}-{version}"


def manifest(template: Document, model: str, namespace: str, spec: WorkloadSpec) -> dict[str, Any]:
    """`template` with all that a version decides; the rest (probes, volumes, grace period …) is the template's.

    Raises BadInput if the template has no container `server`, or no cache for one that needs it; other containers are
    left alone.
    """
    pod = template.get("spec", {}).get("template", {})
    containers = pod.get("spec", {}).get("containers", [])
    if template.get("kind") != "Deployment" or SERVER not in [entry["name"] for entry in containers]:
        raise BadInput(
            f"the template is no Deployment with a container named {SERVER}; begin with manifests/base/workload.yaml"
        )
    _check_mounts(containers, spec)
    identity = {"app": model, "version": spec.version}
    labels = identity | {MODEL_LABEL: model}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **template.get("metadata", {}),
            "name": name_of(model, spec.version),
            "namespace": namespace,
            "labels": _merged(template.get("metadata", {}).get("labels"), labels),
        },
        "spec": {
            **template["spec"],
            "replicas": spec.replicas,
            "selector": {"matchLabels": identity},
            "template": {
                **pod,
                "metadata": {
                    **pod.get("metadata", {}),
                    "labels": _merged(pod.get("metadata", {}).get("labels"), labels),
                },
                "spec": {**pod["spec"], "containers": [_container(entry, model, spec) for entry in containers]},
            },
        },
    }


def revision_of(deployment: Document) -> str:
    """REVISION of the container `server`; "" if it has none."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    variables = [entry for it in containers if it["name"] == SERVER for entry in it.get("env") or []]
    return next((entry.get("value", "") for entry in variables if entry["name"] == "REVISION"), "")


def status(deployment: Document, pods: Sequence[Document]) -> WorkloadStatus:
    """How far the Deployment is, by its pods' own words."""
    desired = deployment["spec"].get("replicas", 1)
    counts = _counts(deployment)
    ready = min(desired, counts.get("readyReplicas", 0), counts.get("updatedReplicas", 0))
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    containers = [(pod, container) for pod in living for container in _containers(pod)]
    failures = [why for pod, container in containers for why in _failure(pod, container)]
    return WorkloadStatus(
        desired=desired,
        ready=ready,
        restarts=sum(container.get("restartCount", 0) for _, container in containers),
        waiting_for="" if ready == desired else _waiting_for(deployment, living, desired, ready),
        failed=failures[0] if failures and ready < desired else "",
    )


def _check_mounts(containers: Sequence[Mapping[str, Any]], spec: WorkloadSpec) -> None:
    """A server that looks for its model in a cache that nobody mounts would crash, with all its pods."""
    mounts = [mount["mountPath"] for it in containers if it["name"] == SERVER for mount in it.get("volumeMounts") or []]
    if MODEL_DIR in spec.environment and str(MODELS) not in mounts:
        raise BadInput(
            f"the template mounts no model cache at {MODELS}, but the policy says image.weights: cache; "
            "put manifests/components/model-cache into it (docs/model-cache.md)"
        )


def _container(template: Mapping[str, Any], model: str, spec: WorkloadSpec) -> dict[str, Any]:
    if template["name"] != SERVER:
        return dict(template)
    set_here = {**spec.environment, "MODEL_ID": model, "REVISION": spec.revision, "VERSION": spec.version}
    kept = [entry for entry in template.get("env", []) if entry["name"] not in set_here]
    resources = template.get("resources", {})
    limits = {name: quantity for name, quantity in spec.resources.items() if name not in _REQUESTED_ONLY}
    return {
        **template,
        "image": spec.image,
        "env": [*kept, *({"name": name, "value": value} for name, value in set_here.items())],
        "resources": {
            **resources,
            "requests": _merged(resources.get("requests"), spec.resources),
            "limits": _merged(resources.get("limits"), limits),
        },
    }


def _merged(template: Mapping[str, str] | None, values: Mapping[str, str]) -> dict[str, str]:
    return {**(template or {}), **values}


def _counts(deployment: Document) -> Mapping[str, Any]:
    """The status, if it speaks of the Deployment as it is now."""
    found: Mapping[str, Any] = deployment.get("status") or {}
    current = found.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return found if current else {}


def _waiting_for(deployment: Document, pods: Sequence[Document], desired: int, ready: int) -> str:
    words = list(dict.fromkeys(word for pod in pods for word in _words(pod)))
    if not words:
        conditions = _counts(deployment).get("conditions", [])
        words = [c["message"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"]
    return f"{ready} of {desired} pods are ready; {'; '.join(words[:3]) or 'the others have not started yet'}"


def _words(pod: Document) -> Iterator[str]:
    name, state = pod["metadata"]["name"], pod.get("status") or {}
    if state.get("reason"):
        yield f"{name}: {_said(state)}"
    for condition in state.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{name} is not scheduled: {_said(condition)}"
    for container in _containers(pod):
        if not container.get("ready"):
            yield f"{name}: {_condition_of(container)}"


def _condition_of(container: Mapping[str, Any]) -> str:
    state = container.get("state") or {}
    if "waiting" in state:
        return _said(state["waiting"]) + _ended_before(container)
    if "terminated" in state:
        return _ended(state["terminated"])
    if "running" in state and not container.get("started"):
        return "its startup probe has not passed yet" + _ended_before(container)
    return "its readiness probe does not pass" + _ended_before(container)


def _failure(pod: Document, container: Mapping[str, Any]) -> Iterator[str]:
    name, restarts = pod["metadata"]["name"], container.get("restartCount", 0)
    waiting = (container.get("state") or {}).get("waiting") or {}
    if container.get("ready"):
        return
    if waiting.get("reason") in UNPULLABLE:
        yield f"{name}: the image {container.get('image', '')} cannot be pulled ({_said(waiting)})"
    elif waiting.get("reason") == "CrashLoopBackOff" or restarts >= CRASHES:
        yield f"{name} keeps crashing: {restarts} restarts{_ended_before(container)}; see kubectl logs -p {name}"


def _containers(pod: Document) -> list[dict[str, Any]]:
    """Statuses of those that shall run on; of the others (init containers) those that have not ended well."""
    state = pod.get("status") or {}
    starting = [
        container
        for container in state.get("initContainerStatuses") or []
        if ((container.get("state") or {}).get("terminated") or {}).get("exitCode") != 0
    ]
    return starting + (state.get("containerStatuses") or [])


def _ended_before(container: Mapping[str, Any]) -> str:
    terminated = (container.get("lastState") or {}).get("terminated") or (container.get("state") or {}).get(
        "terminated"
    )
    return f", {_ended(terminated)} before" if terminated else ""


def _ended(terminated: Mapping[str, Any]) -> str:
    lines = str(terminated.get("message", "")).strip().splitlines()
    last_words = f": {lines[-1]}" if lines else ""
    return f"it ended with exit code {terminated.get('exitCode')} ({terminated.get('reason', 'no reason')}{last_words})"


def _said(words: Mapping[str, Any]) -> str:
    return ": ".join(str(words[key]) for key in ("reason", "message") if words.get(key)) or "no reason given"
