"""Tables: the columns that `kubectl get` prints, per kind."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.apiserver.kinds import Kind, Object
from sandbox.apiserver.schema import printer_columns
from sandbox.apiserver.selectors import label_selector_text

Cell = Callable[[Object], Any]


@dataclass(frozen=True)
class Column:
    """One column; `wide` ones are shown with `-o wide` only."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False
    description: str = ""
    format: str = ""


def at(path: str, missing: Any = None) -> Cell:
    """The value at a dotted path."""

    def cell(item: Object) -> Any:
        value: Any = item
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return missing if value is None else value

    return cell


def age(item: Object) -> str:
    """Time since creation, as kubectl prints it."""
    created = item["metadata"].get("creationTimestamp")
    return "<unknown>" if created is None else _since(created)


def _since(then: str) -> str:
    return duration(int((datetime.now(UTC) - datetime.fromisoformat(then)).total_seconds()))


def duration(seconds: int) -> str:
    """Seconds in kubectl's short form: two units while they are small, one when the second no longer matters."""
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _two(days, "d", hours % 24, "h") if days < 8 else f"{days}d"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _containers(item: Object) -> list[Object]:
    spec = item.get("spec", {})
    found: list[Object] = spec.get("template", {}).get("spec", spec).get("containers", [])
    return found


def _container_names(item: Object) -> str:
    return ",".join(container["name"] for container in _containers(item))


def _images(item: Object) -> str:
    return ",".join(container.get("image", "") for container in _containers(item))


def _selector(item: Object) -> str:
    selector = item["spec"].get("selector") or {}
    return label_selector_text(selector if "matchLabels" in selector else {"matchLabels": selector}) or "<none>"


def _deployment_ready(item: Object) -> str:
    return f"{item['status'].get('readyReplicas', 0)}/{item['spec'].get('replicas', 1)}"


def _statuses(item: Object) -> list[Object]:
    found: list[Object] = item.get("status", {}).get("containerStatuses", [])
    return found


def _pod_ready(item: Object) -> str:
    return f"{sum(bool(one.get('ready')) for one in _statuses(item))}/{len(_containers(item))}"


def _pod_status(item: Object) -> str:
    if "deletionTimestamp" in item["metadata"]:
        return "Terminating"
    found = item.get("status", {})
    reason = str(found.get("reason") or found.get("phase", "Unknown"))
    for one in _statuses(item):
        for state in ("waiting", "terminated"):
            details = one.get("state", {}).get(state)
            if details is not None:
                reason = details.get("reason") or f"ExitCode:{details.get('exitCode', '')}"
    return reason


def _restarts(item: Object) -> str:
    count = sum(one.get("restartCount", 0) for one in _statuses(item))
    ended = [one.get("lastState", {}).get("terminated", {}).get("finishedAt") for one in _statuses(item)]
    last = max(filter(None, ended), default=None)
    return f"{count} ({_since(last)} ago)" if count and last else str(count)


def _service_ports(item: Object) -> str:
    ports = [f"{port['port']}/{port.get('protocol', 'TCP')}" for port in item["spec"].get("ports", ())]
    return ",".join(ports) or "<none>"


def _node_status(item: Object) -> str:
    ready = {one["type"]: one["status"] for one in item.get("status", {}).get("conditions", ())}.get("Ready")
    known = {"True": "Ready", "False": "NotReady"}.get(str(ready), "Unknown")
    return f"{known},SchedulingDisabled" if item.get("spec", {}).get("unschedulable") else known


def _node_address(item: Object) -> str:
    addresses = item.get("status", {}).get("addresses", ())
    return next((one["address"] for one in addresses if one.get("type") == "InternalIP"), "<none>")


def _endpoint_addresses(item: Object) -> str:
    addresses = [address for endpoint in item.get("endpoints") or () for address in endpoint.get("addresses", ())]
    more = f" + {len(addresses) - 3} more..." if len(addresses) > 3 else ""
    return ",".join(addresses[:3]) + more or "<unset>"


def _endpoint_ports(item: Object) -> str:
    return ",".join(str(port.get("port", "*")) for port in item.get("ports") or ()) or "<unset>"


def _event_seen(item: Object) -> str:
    seen = item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp")
    return _since(seen) if seen else "<unknown>"


def _event_object(item: Object) -> str:
    about = item.get("involvedObject", {})
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def _autoscaler_reference(item: Object) -> str:
    target = item["spec"].get("scaleTargetRef", {})
    return f"{target.get('kind', '')}/{target.get('name', '')}"


def _count(key: str) -> Cell:
    return lambda item: len(item.get(key) or {})


_NAME_DESCRIPTION = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically."
)
_NAME = Column("Name", at("metadata.name"), description=_NAME_DESCRIPTION, format="name")
_AGE = Column("Age", age, description="Time since the object was created.")
_WORKLOAD = (
    Column("Containers", _container_names, wide=True, description="Names of each container in the template."),
    Column("Images", _images, wide=True, description="Images referenced by each container in the template."),
    Column("Selector", _selector, wide=True, description="Label selector for pods."),
)
_NONE = "<none>"

_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Pod": (
        _NAME,
        Column("Ready", _pod_ready, description="The aggregate readiness state of this pod for accepting traffic."),
        Column("Status", _pod_status, description="The aggregate status of the containers in this pod."),
        Column("Restarts", _restarts, description="How often containers were restarted, and when the last time."),
        _AGE,
        Column("IP", at("status.podIP", _NONE), wide=True, description="The address of the pod."),
        Column("Node", at("spec.nodeName", _NONE), wide=True, description="The node that runs the pod."),
        Column("Nominated Node", at("status.nominatedNodeName", _NONE), wide=True, description="Set by preemption."),
        Column("Readiness Gates", lambda _: _NONE, wide=True, description="Conditions that readiness waits for."),
    ),
    "Deployment": (
        _NAME,
        Column("Ready", _deployment_ready, description="Number of the pod with ready state"),
        Column("Up-to-date", at("status.updatedReplicas", 0), description="Pods with the desired template."),
        Column("Available", at("status.availableReplicas", 0), description="Pods ready for minReadySeconds."),
        _AGE,
        *_WORKLOAD,
    ),
    "ReplicaSet": (
        _NAME,
        Column("Desired", at("spec.replicas", 1), "integer"),
        Column("Current", at("status.replicas", 0), "integer"),
        Column("Ready", at("status.readyReplicas", 0), "integer"),
        _AGE,
        *_WORKLOAD,
    ),
    "Service": (
        _NAME,
        Column("Type", at("spec.type")),
        Column("Cluster-IP", at("spec.clusterIP", _NONE)),
        Column("External-IP", lambda _: _NONE),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _selector, wide=True),
    ),
    "Namespace": (_NAME, Column("Status", at("status.phase")), _AGE),
    "Node": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", lambda _: _NONE),
        _AGE,
        Column("Version", at("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", _node_address, wide=True),
    ),
    "ConfigMap": (_NAME, Column("Data", _count("data"), "integer"), _AGE),
    "Secret": (_NAME, Column("Type", at("type")), Column("Data", _count("data"), "integer"), _AGE),
    "ServiceAccount": (_NAME, Column("Secrets", _count("secrets"), "integer"), _AGE),
    "Event": (
        Column("Last Seen", _event_seen),
        Column("Type", at("type", "")),
        Column("Reason", at("reason", "")),
        Column("Object", _event_object),
        Column("Message", at("message", "")),
        Column("Name", at("metadata.name"), wide=True, format="name"),
    ),
    "EndpointSlice": (
        _NAME,
        Column("AddressType", at("addressType")),
        Column("Ports", _endpoint_ports),
        Column("Endpoints", _endpoint_addresses),
        _AGE,
    ),
    "Lease": (_NAME, Column("Holder", at("spec.holderIdentity", "")), _AGE),
    "HorizontalPodAutoscaler": (
        _NAME,
        Column("Reference", _autoscaler_reference),
        Column("Targets", lambda _: "<unknown>"),
        Column("MinPods", at("spec.minReplicas", "<unset>")),
        Column("MaxPods", at("spec.maxReplicas"), "integer"),
        Column("Replicas", at("status.currentReplicas", 0), "integer"),
        _AGE,
    ),
    "PodDisruptionBudget": (
        _NAME,
        Column("Min Available", at("spec.minAvailable", "N/A")),
        Column("Max Unavailable", at("spec.maxUnavailable", "N/A")),
        Column("Allowed Disruptions", at("status.disruptionsAllowed", 0), "integer"),
        _AGE,
    ),
}


def _custom_columns(kind: Kind) -> Iterator[Column]:
    yield _NAME
    stated = printer_columns()[kind.group, kind.plural]
    for column in stated or [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]:
        path = column["jsonPath"].lstrip(".")
        cell = age if column["type"] == "date" else _as_text(at(path))
        yield Column(column["name"], cell, column["type"], description=column.get("description", ""))


def _as_text(cell: Cell) -> Cell:
    def text(item: Object) -> Any:
        value = cell(item)
        return json.dumps(value, separators=(",", ":")) if isinstance(value, list | dict) else value

    return text


def columns(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind; name and age when it has none of its own."""
    return tuple(_custom_columns(kind)) if kind.custom else _COLUMNS.get(kind.name, (_NAME, _AGE))


def table(kind: Kind, items: Sequence[Object], resource_version: str, version: str, include: str) -> Object:
    """A Table of the items. `include` says what each row carries: None, Metadata or Object."""
    shown = columns(kind)
    metadata = {"resourceVersion": resource_version} if resource_version else {}
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in shown],
        "rows": [_row(item, shown, include) for item in items],
    }


def rows_for_watch(kind: Kind, version: str, include: str) -> Callable[[Object], Object]:
    """What turns each object of a watch into a Table; a bookmark has no row."""

    def shown(item: Object) -> Object:
        rows = [item] if "name" in item["metadata"] else []
        return table(kind, rows, item["metadata"].get("resourceVersion", ""), version, include)

    return shown


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": int(column.wide),
    }


def _row(item: Object, shown: Sequence[Column], include: str) -> Object:
    cells = [column.cell(item) for column in shown]
    if include == "None":
        return {"cells": cells}
    if include == "Object":
        return {"cells": cells, "object": item}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
    return {"cells": cells, "object": partial}
