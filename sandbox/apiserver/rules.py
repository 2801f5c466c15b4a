"""Rules of single kinds that a schema cannot express: what is invalid, and what an update may not change."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.apiserver.kinds import Kind, Object
from sandbox.apiserver.status import Cause

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is '" + _SUBDOMAIN + "')"
)
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '" + _LABEL + "')"
)
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_POD_CHANGEABLE = ("activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds")
_POD_MESSAGE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative); "
    "a pod gets its node by a Binding"
)


def name_problems(kind: Kind, name: str) -> list[Cause]:
    """What is wrong with the name; namespaces and services are DNS labels, everything else a subdomain."""
    label = kind.name in ("Namespace", "Service")
    pattern, message = (_LABEL, _LABEL_MESSAGE) if label else (_SUBDOMAIN, _SUBDOMAIN_MESSAGE)
    longest = 63 if label else 253
    found = []
    if len(name) > longest:
        found.append(Cause("metadata.name", f"Invalid value: {json.dumps(name)}: must be no more than {longest} bytes"))
    if not re.fullmatch(pattern, name):
        found.append(Cause("metadata.name", f"Invalid value: {json.dumps(name)}: {message}"))
    return found


def label_problems(item: Object) -> Iterator[Cause]:
    """Labels whose value a selector could not name."""
    for value in (item["metadata"].get("labels") or {}).values():
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            text = "a valid label must be empty or consist of at most 63 alphanumeric characters, '-', '_' or '.'"
            yield Cause("metadata.labels", f"Invalid value: {json.dumps(value)}: {text}")


def problems(kind: Kind, item: Object) -> list[Cause]:
    """What is wrong with the object in itself."""
    rule = None if kind.custom else _RULES.get(kind.name)
    return [*label_problems(item), *(rule(item) if rule else ())]


def update_problems(kind: Kind, old: Object, new: Object) -> list[Cause]:
    """What the update changes and may not."""
    if kind.name in ("Deployment", "ReplicaSet"):
        return _immutable("spec.selector", old["spec"].get("selector"), new["spec"].get("selector"))
    if kind.name == "Pod" and _fixed_part(old["spec"]) != _fixed_part(new["spec"]):
        return [Cause("spec", _POD_MESSAGE, "FieldValueForbidden")]
    if kind.name == "Service" and new["spec"].get("type") == old["spec"].get("type"):
        return _immutable("spec.clusterIP", old["spec"].get("clusterIP"), new["spec"].get("clusterIP"))
    return []


def _immutable(field: str, old: Any, new: Any) -> list[Cause]:
    return [] if old == new else [Cause(field, f"Invalid value: {_compact(new)}: field is immutable")]


def _fixed_part(spec: Object) -> Object:
    containers = {
        key: [{name: value for name, value in container.items() if name != "image"} for container in spec.get(key, ())]
        for key in ("containers", "initContainers")
    }
    return {**{key: value for key, value in spec.items() if key not in _POD_CHANGEABLE}, **containers}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _not_negative(item: Object, field: str) -> Iterator[Cause]:
    value = item.get("spec", {}).get(field)
    if value is not None and value < 0:
        yield Cause(f"spec.{field}", f"Invalid value: {value}: must be greater than or equal to 0")


def _workload(item: Object) -> Iterator[Cause]:
    yield from _not_negative(item, "replicas")
    spec = item.get("spec", {})
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    template = spec.get("template", {})
    labels = template.get("metadata", {}).get("labels") or {}
    if not spec.get("selector"):
        yield Cause("spec.selector", "Required value", "FieldValueRequired")
    elif any(labels.get(key) != value for key, value in selector.items()):
        text = "`selector` does not match template `labels`"
        yield Cause("spec.template.metadata.labels", f"Invalid value: {_compact(labels)}: {text}")
    yield from _pod_spec(template.get("spec", {}), "spec.template.spec")


def _pod(item: Object) -> Iterator[Cause]:
    return _pod_spec(item.get("spec", {}), "spec")


def _pod_spec(spec: Object, path: str) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield Cause(f"{path}.containers", "Required value", "FieldValueRequired")
    names: set[str] = set()
    for index, container in enumerate(containers):
        name = container.get("name", "")
        if name in names:
            text = f"Duplicate value: {json.dumps(name)}"
            yield Cause(f"{path}.containers[{index}].name", text, "FieldValueDuplicate")
        names.add(name)
        if not container.get("image"):
            yield Cause(f"{path}.containers[{index}].image", "Required value", "FieldValueRequired")


def _lease(item: Object) -> Iterator[Cause]:
    seconds = item.get("spec", {}).get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        yield Cause("spec.leaseDurationSeconds", f"Invalid value: {seconds}: must be greater than 0")
    transitions = item.get("spec", {}).get("leaseTransitions")
    if transitions is not None and transitions < 0:
        yield Cause("spec.leaseTransitions", f"Invalid value: {transitions}: must be greater than or equal to 0")


def _service(item: Object) -> Iterator[Cause]:
    ports = item.get("spec", {}).get("ports") or []
    if not ports and item.get("spec", {}).get("clusterIP") != "None" and item["spec"].get("type") != "ExternalName":
        yield Cause("spec.ports", "Required value", "FieldValueRequired")
    for index, port in enumerate(ports):
        if not 1 <= port.get("port", 0) <= 65535:
            text = f"Invalid value: {port.get('port', 0)}: must be between 1 and 65535, inclusive"
            yield Cause(f"spec.ports[{index}].port", text)
        if len(ports) > 1 and not port.get("name"):
            yield Cause(f"spec.ports[{index}].name", "Required value", "FieldValueRequired")


def _autoscaler(item: Object) -> Iterator[Cause]:
    spec = item.get("spec", {})
    if spec.get("maxReplicas", 0) < spec.get("minReplicas", 1):
        text = f"Invalid value: {spec.get('maxReplicas', 0)}: must be greater than or equal to `minReplicas`"
        yield Cause("spec.maxReplicas", text)


def _event(item: Object) -> Iterator[Cause]:
    namespace = (item.get("involvedObject") or {}).get("namespace") or "default"
    if namespace != item["metadata"].get("namespace"):
        text = "does not match event.namespace"
        yield Cause("involvedObject.namespace", f"Invalid value: {json.dumps(namespace)}: {text}")


_RULES: dict[str, Callable[[Object], Iterator[Cause]]] = {
    "Deployment": _workload,
    "ReplicaSet": _workload,
    "Pod": _pod,
    "Lease": _lease,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "Event": _event,
}
