"""What a real API server fills in when a client leaves it out, for the built-in kinds that the sandbox runs."""

from collections.abc import Callable
from typing import Any

from sandbox.apiserver.kinds import Kind, Object

_CONTAINER = {
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_POD_SPEC = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_PROBE = {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}


def _filled(item: Object, defaults: Object) -> Object:
    return {**defaults, **item}


def _container(container: Object) -> Object:
    filled = _filled(container, _CONTAINER)
    image = str(container.get("image", ""))
    if "imagePullPolicy" not in container and "@" not in image:
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        filled["imagePullPolicy"] = "Always" if tag in ("", "latest") else "IfNotPresent"
    if "ports" in container:
        filled["ports"] = [_filled(port, {"protocol": "TCP"}) for port in container["ports"]]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            filled[probe] = _probe(container[probe])
    return filled


def _probe(probe: Object) -> Object:
    filled = _filled(probe, _PROBE)
    if "httpGet" in probe:
        filled["httpGet"] = _filled(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    return filled


def _pod_spec(spec: Object) -> Object:
    filled = _filled(spec, _POD_SPEC)
    for key in ("containers", "initContainers"):
        if key in spec:
            filled[key] = [_container(container) for container in spec[key]]
    if "serviceAccountName" in spec:
        filled.setdefault("serviceAccount", spec["serviceAccountName"])
    return filled


def _template(template: Object) -> Object:
    metadata = {key: value for key, value in template.get("metadata", {}).items() if value not in (None, {}, [])}
    return {**template, "metadata": metadata, "spec": _pod_spec(template.get("spec", {}))}


def _deployment(item: Object) -> Object:
    spec = _filled(item.get("spec", {}), {"progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10})
    strategy = _filled(spec.get("strategy", {}), {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        rolling = _filled(strategy.get("rollingUpdate", {}), {"maxSurge": "25%", "maxUnavailable": "25%"})
        strategy = {**strategy, "rollingUpdate": rolling}
    spec = {**spec, "strategy": strategy, "template": _template(spec.get("template", {}))}
    return {**item, "spec": spec, "status": item.get("status", {})}


def _replica_set(item: Object) -> Object:
    spec = _filled(item.get("spec", {}), {"replicas": 1})
    if "template" in spec:
        spec["template"] = _template(spec["template"])
    return {**item, "spec": spec, "status": item.get("status", {"replicas": 0})}


def _pod(item: Object) -> Object:
    spec = _filled(
        _pod_spec(item.get("spec", {})),
        {
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            "priority": 0,
            "serviceAccount": "default",
            "serviceAccountName": "default",
            "tolerations": [_tolerated("not-ready"), _tolerated("unreachable")],
        },
    )
    status = _filled(item.get("status", {}), {"phase": "Pending", "qosClass": _quality(spec)})
    if "conditions" in status:
        status["conditions"] = [_filled(condition, {"lastProbeTime": None}) for condition in status["conditions"]]
    return {**item, "spec": spec, "status": status}


def _tolerated(condition: str) -> Object:
    key = f"node.kubernetes.io/{condition}"
    return {"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300}


def _quality(spec: Object) -> str:
    resources = [container.get("resources", {}) for container in spec.get("containers", ())]
    if not any(found.get("requests") or found.get("limits") for found in resources):
        return "BestEffort"
    guaranteed = all(
        set(found.get("limits", {})) >= {"cpu", "memory"} and found.get("requests", found["limits"]) == found["limits"]
        for found in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _service(item: Object) -> Object:
    spec = _filled(item.get("spec", {}), {"sessionAffinity": "None", "type": "ClusterIP"})
    spec["ports"] = [_service_port(port) for port in spec.get("ports", [])]
    if spec["type"] != "ExternalName":
        spec = _filled(
            spec, {"internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        )
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
    return {**item, "spec": spec, "status": item.get("status", {"loadBalancer": {}})}


def _service_port(port: Object) -> Object:
    return _filled(port, {"protocol": "TCP", "targetPort": port.get("port")})


def _namespace(item: Object) -> Object:
    metadata = item["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata.get("name", "")}
    return {
        **item,
        "metadata": {**metadata, "labels": labels},
        "spec": {"finalizers": ["kubernetes"], **item.get("spec", {})},
        "status": {"phase": "Active", **item.get("status", {})},
    }


def _event(item: Object) -> Object:
    empty: dict[str, Any] = {
        "eventTime": None,
        "firstTimestamp": None,
        "lastTimestamp": None,
        "reportingComponent": "",
        "reportingInstance": "",
        "source": {},
    }
    return _filled(item, empty)


def _autoscaler(item: Object) -> Object:
    spec = _filled(item.get("spec", {}), {"minReplicas": 1})
    return {
        **item,
        "spec": spec,
        "status": _filled(item.get("status", {}), {"currentMetrics": None, "desiredReplicas": 0}),
    }


def _endpoint_slice(item: Object) -> Object:
    ports = [_filled(port, {"name": "", "protocol": "TCP"}) for port in item.get("ports") or []]
    return {**item, "endpoints": item.get("endpoints") or [], "ports": ports}


def _secret(item: Object) -> Object:
    return _filled(item, {"type": "Opaque"})


_BY_KIND: dict[str, Callable[[Object], Object]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Pod": _pod,
    "Service": _service,
    "Namespace": _namespace,
    "Event": _event,
    "HorizontalPodAutoscaler": _autoscaler,
    "EndpointSlice": _endpoint_slice,
    "Secret": _secret,
}


def with_defaults(kind: Kind, item: Object) -> Object:
    """The object with its defaults; applying it twice changes nothing. Custom resources have none."""
    fill = None if kind.custom else _BY_KIND.get(kind.name)
    return fill(item) if fill else item
