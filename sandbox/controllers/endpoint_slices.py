"""The EndpointSlice controller: the addresses of a service's pods, with what can be said of each."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sandbox.controllers.plan import (
    Create,
    Delete,
    Patch,
    Plan,
    Write,
    is_deleting,
    is_ready,
    owner_reference,
    timestamp,
)
from sandbox.kubernetes_api import ENDPOINT_SLICES, Object

SERVICE_LABEL = "kubernetes.io/service-name"
_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
_MANAGER = "endpointslice-controller.k8s.io"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"

Ports = tuple[tuple[tuple[str, object], ...], ...]
"""The ports of a slice as hashable pairs, to group pods by what their named ports resolve to."""


def selects(service: Object, pod: Object) -> bool:
    """Whether the pod belongs to the service. A service without selector has no pods of its own."""
    selector = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def reconcile(service: Object, pods: Sequence[Object], slices: Sequence[Object], now: datetime) -> Plan:
    """One slice for each set of resolved ports; `pods` are those selected, `slices` those of this service."""
    managed = [one for one in slices if one["metadata"].get("labels", {}).get(_MANAGER_LABEL) == _MANAGER]
    if is_deleting(service) or not service["spec"].get("selector"):
        return Plan()
    wanted = _groups(service, pods)
    free = sorted(managed, key=lambda one: str(one["metadata"]["name"]))
    writes: list[Write] = []
    for ports, endpoints in wanted.items():
        present = next((one for one in free if _ports_of(one) == ports), free[0] if free else None)
        if present is None:
            writes.append(_created(service, ports, endpoints, now))
            continue
        free.remove(present)
        writes.extend(_changed(present, ports, endpoints, now))
    return Plan((*writes, *(Delete(ENDPOINT_SLICES, one) for one in free)))


def _groups(service: Object, pods: Sequence[Object]) -> dict[Ports, list[Object]]:
    found: dict[Ports, list[Object]] = defaultdict(list)
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])):
        status = pod.get("status", {})
        if status.get("podIP") and status.get("phase") not in ("Succeeded", "Failed"):
            found[_resolved(service, pod)].append(_endpoint(service, pod))
    return found or {_resolved(service, None): []}


def _resolved(service: Object, pod: Object | None) -> Ports:
    """The service's ports as the pod serves them; one whose named target the pod lacks is left out."""
    ports = []
    for port in service["spec"].get("ports") or ():
        target = port.get("targetPort", port["port"])
        number = target if isinstance(target, int) else _named(pod, target, port.get("protocol", "TCP"))
        if number is not None:
            stated = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            if "appProtocol" in port:
                stated["appProtocol"] = port["appProtocol"]
            ports.append(tuple(sorted(stated.items())))
    return tuple(ports)


def _named(pod: Object | None, name: str, protocol: str) -> int | None:
    if name.isdigit():
        return int(name)
    for container in pod["spec"]["containers"] if pod else ():
        for port in container.get("ports", ()):
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _endpoint(service: Object, pod: Object) -> Object:
    metadata, ready, terminating = pod["metadata"], is_ready(pod), is_deleting(pod)
    serving = ready or bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving and not terminating, "serving": ready, "terminating": terminating},
        "targetRef": {"kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}},
    }
    if "nodeName" in pod["spec"]:
        endpoint["nodeName"] = pod["spec"]["nodeName"]
    return endpoint


def _ports_of(present: Object) -> Ports:
    return tuple(tuple(sorted(port.items())) for port in present.get("ports") or ())


def _created(service: Object, ports: Ports, endpoints: list[Object], now: datetime) -> Create:
    metadata = service["metadata"]
    labels = {SERVICE_LABEL: metadata["name"], _MANAGER_LABEL: _MANAGER}
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": {_TRIGGER: timestamp(now)},
            "ownerReferences": [owner_reference(service, "v1", "Service")],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [dict(port) for port in ports],
    }
    return Create(ENDPOINT_SLICES, body)


def _changed(present: Object, ports: Ports, endpoints: list[Object], now: datetime) -> list[Write]:
    changes: Object = {}
    if (present.get("endpoints") or []) != endpoints:
        changes["endpoints"] = endpoints
    if _ports_of(present) != ports:
        changes["ports"] = [dict(port) for port in ports]
    if not changes:
        return []
    changes["metadata"] = {"annotations": {_TRIGGER: timestamp(now)}}
    return [Patch(ENDPOINT_SLICES, present, changes)]
