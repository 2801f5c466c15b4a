"""Services, DestinationRules, EndpointSlices and Pods -> Envoy's clusters and their endpoints. Pure.

There is one cluster for each port of a Service, and one more for each subset of its DestinationRule. A cluster's
endpoints are the ready addresses of the Service's EndpointSlices, for a subset those of pods with its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.gateway.fields import Fields
from sandbox.gateway.hosts import cluster_name, full_host, service_host
from sandbox.gateway.routes import METADATA

Json = dict[str, Any]
Item = Mapping[str, Any]

NO_LIMIT = 2**32 - 1
LOAD_BALANCING = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}


@dataclass(frozen=True)
class Clusters:
    """Envoy's clusters by name (without where their endpoints are read from), and each one's endpoint assignment."""

    clusters: dict[str, Json] = field(default_factory=dict)
    endpoints: dict[str, Json] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def render_clusters(
    services: Iterable[Item],
    destination_rules: Iterable[Item],
    slices: Iterable[Item],
    pods: Mapping[tuple[str, str], Item],
) -> Clusters:
    rendered = Clusters()
    rules = {full_host(r["spec"]["host"], r["metadata"]["namespace"]): r for r in destination_rules}
    slices = list(slices)
    for service in services:
        host = service_host(service)
        own = [s for s in slices if _belongs(s, service)]
        policy, subsets = _rule(rules.get(host), rendered.unknown)
        for port in service["spec"].get("ports") or []:
            addresses = _addresses(own, port.get("name", ""), pods)
            for subset in [Subset("", {}, {}), *subsets]:
                name = cluster_name(host, port["port"], subset.name)
                chosen = [a for a in addresses if subset.labels.items() <= a.labels.items()]
                rendered.clusters[name] = _cluster(name, subset, {**policy, **subset.policy})
                rendered.endpoints[name] = _assignment(name, chosen)
    return rendered


@dataclass(frozen=True)
class Subset:
    name: str
    labels: Mapping[str, str]
    policy: Json


@dataclass(frozen=True)
class Address:
    """One ready endpoint; `workload` is the Deployment that the pod belongs to."""

    ip: str
    port: int
    labels: Mapping[str, str]
    workload: str


def _belongs(endpoint_slice: Item, service: Item) -> bool:
    metadata = endpoint_slice["metadata"]
    owner = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
    return (metadata["namespace"], owner) == (service["metadata"]["namespace"], service["metadata"]["name"])


def _addresses(slices: Iterable[Item], port_name: str, pods: Mapping[tuple[str, str], Item]) -> list[Address]:
    found: dict[tuple[str, int], Address] = {}
    for endpoint_slice in slices:
        ports = [
            p["port"] for p in endpoint_slice.get("ports") or [] if p.get("name", "") == port_name and p.get("port")
        ]
        for endpoint in endpoint_slice.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            target = endpoint.get("targetRef") or {}
            pod = pods.get((endpoint_slice["metadata"]["namespace"], target.get("name", "")), {"metadata": {}})
            labels = pod["metadata"].get("labels") or {}
            for ip in endpoint["addresses"]:
                for port in ports:
                    found[ip, port] = Address(ip, port, labels, workload_of(pod))
    return [found[key] for key in sorted(found)]


def workload_of(pod: Item) -> str:
    """The Deployment's name: its ReplicaSet's without the template hash. Else the owner's, or the pod's own."""
    metadata = pod["metadata"]
    owner = next(
        (o["name"] for o in metadata.get("ownerReferences") or [] if o.get("controller")), metadata.get("name", "")
    )
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    name: str = owner.removesuffix(f"-{template_hash}") if template_hash else owner
    return name or "unknown"


def _assignment(name: str, addresses: Iterable[Address]) -> Json:
    endpoints = [
        {
            "endpoint": {"address": {"socket_address": {"address": a.ip, "port_value": a.port}}},
            "metadata": {
                "filter_metadata": {METADATA: {"workload": a.workload, "version": a.labels.get("version", "unknown")}}
            },
        }
        for a in addresses
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []}


def _rule(rule: Item | None, unknown: list[str]) -> tuple[Json, list[Subset]]:
    """The DestinationRule's traffic policy as Envoy's cluster fields, and its subsets."""
    if rule is None:
        return {}, []
    title = f"DestinationRule {rule['metadata']['namespace']}/{rule['metadata']['name']}: spec"
    with Fields(rule["spec"], title, unknown) as spec:
        spec.take("host"), spec.take("exportTo")
        policy = _policy(spec.child("trafficPolicy"))
        subsets = []
        for entry in spec.children("subsets"):
            with entry:
                name, labels = entry.take("name"), entry.take("labels", {})
                subsets.append(Subset(name, labels, _policy(entry.child("trafficPolicy"))))
    return policy, subsets


def _policy(traffic_policy: Fields) -> Json:
    rendered: Json = {}
    with traffic_policy:
        if "connectionPool" in traffic_policy:
            rendered |= _connection_pool(traffic_policy.child("connectionPool"))
        if "outlierDetection" in traffic_policy:
            rendered["outlier_detection"] = _outlier_detection(traffic_policy.child("outlierDetection"))
        with traffic_policy.child("loadBalancer") as balancer:
            simple = balancer.take("simple")
            if simple in LOAD_BALANCING:
                rendered["lb_policy"] = LOAD_BALANCING[simple]
            elif simple:
                balancer.note("simple", simple)
    return rendered


def _connection_pool(pool: Fields) -> Json:
    limits: Json = {}
    rendered: Json = {}
    options: Json = {}
    with pool:
        with pool.child("tcp") as tcp:
            _copy(tcp, limits, {"maxConnections": "max_connections"})
            if timeout := tcp.take_duration("connectTimeout"):
                rendered["connect_timeout"] = timeout
        with pool.child("http") as http:
            names = {
                "http1MaxPendingRequests": "max_pending_requests",
                "http2MaxRequests": "max_requests",
                "maxRetries": "max_retries",
            }
            _copy(http, limits, names)
            _copy(http, options, {"maxRequestsPerConnection": "max_requests_per_connection"})
            if timeout := http.take_duration("idleTimeout"):
                options["idle_timeout"] = timeout
    if limits:
        rendered["circuit_breakers"] = _circuit_breakers(limits)
    if options:
        rendered["typed_extension_protocol_options"] = _protocol_options(options)
    return rendered


def _outlier_detection(outlier: Fields) -> Json:
    """Istio's names and defaults; what it leaves off (success rate) is off."""
    rendered: Json = {"enforcing_success_rate": 0, "enforcing_consecutive_5xx": 0}
    with outlier:
        _copy(
            outlier, rendered, {"consecutive5xxErrors": "consecutive_5xx", "maxEjectionPercent": "max_ejection_percent"}
        )
        if "consecutive_5xx" in rendered or "consecutiveGatewayErrors" not in outlier:
            rendered["enforcing_consecutive_5xx"] = 100
        if "consecutiveGatewayErrors" in outlier:
            rendered["consecutive_gateway_failure"] = outlier.take("consecutiveGatewayErrors")
            rendered["enforcing_consecutive_gateway_failure"] = 100
        for istio, envoy in (("interval", "interval"), ("baseEjectionTime", "base_ejection_time")):
            if value := outlier.take_duration(istio):
                rendered[envoy] = value
    return rendered


def _copy(fields: Fields, into: Json, names: Mapping[str, str]) -> None:
    for istio, envoy in names.items():
        if istio in fields:
            into[envoy] = fields.take(istio)


def _circuit_breakers(limits: Json) -> Json:
    """As Istio: no limit where none is given."""
    keys = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [{key: limits.get(key, NO_LIMIT) for key in keys}]}


def _protocol_options(options: Json) -> Json:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        kind: {
            "@type": f"type.googleapis.com/{kind}",
            "common_http_protocol_options": options,
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }


def _cluster(name: str, subset: Subset, policy: Json) -> Json:
    metadata = {"version": subset.labels["version"]} if "version" in subset.labels else {}
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": _circuit_breakers({}),
        # No panic routing: with every endpoint ejected or gone, the answer is 503, as under Istio.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "metadata": {"filter_metadata": {METADATA: metadata}},
        **policy,
    }
