"""VirtualServices and Gateways -> Envoy's route configuration, with Istio's semantics. Pure.

A field that is not known here is left out and reported by its path. An unknown condition inside a match leaves out that
whole match entry, because ignoring one condition would let more requests match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox.gateway.durations import envoy_percentage
from sandbox.gateway.fields import Fields
from sandbox.gateway.hosts import cluster_name, full_host, host_matches
from sandbox.gateway.matches import route_matches

ROUTE_CONFIGURATION = "http"
FAULT_FILTER = "envoy.filters.http.fault"
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
DEFAULT_RETRY_ATTEMPTS = 2
DEFAULT_PORT = 80
METADATA = "istio"
"""The filter metadata namespace in which routes, clusters and endpoints carry what the access log names."""

Json = dict[str, Any]
PortOf = Callable[[str], int | None]
"""The only port of a service's host; None when the service is unknown or has several."""


def route_configuration(
    virtual_services: Iterable[Mapping[str, Any]], gateways: Iterable[Mapping[str, Any]], port_of: PortOf
) -> tuple[Json, list[str]]:
    """The RouteConfiguration of the gateway's listener, and the paths of fields that it leaves out.

    The oldest VirtualService (then the first by name) keeps a host that several claim.
    """
    unknown: list[str] = []
    by_name = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in gateways}
    claimed: set[str] = set()
    virtual_hosts = []
    for item in sorted(virtual_services, key=_age):
        with Fields(item["spec"], f"{_title(item)}: spec", unknown) as spec:
            domains = _domains(item, spec, by_name, claimed)
            routes = [
                r for http in spec.children("http") for r in _routes(http, item["metadata"]["namespace"], port_of)
            ]
            spec.take("exportTo")
        if domains:
            claimed.update(domains)
            virtual_hosts.append({"name": _title(item), "domains": domains, "routes": routes})
    configuration = {
        "name": ROUTE_CONFIGURATION,
        "virtual_hosts": virtual_hosts,
        "ignore_port_in_host_matching": True,
        "validate_clusters": False,
    }
    return configuration, unknown


def _age(item: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["namespace"], metadata["name"]


def _title(item: Mapping[str, Any]) -> str:
    return f"VirtualService {item['metadata']['namespace']}/{item['metadata']['name']}"


def _domains(
    item: Mapping[str, Any], spec: Fields, gateways: Mapping[tuple[str, str], Mapping[str, Any]], claimed: set[str]
) -> list[str]:
    """The hosts that this VirtualService serves here: all when bound to `mesh`, else those that its Gateways expose."""
    namespace = item["metadata"]["namespace"]
    hosts = [full_host(host, namespace) for host in spec.take("hosts", [])]
    bound = spec.take("gateways", ["mesh"])
    exposed: list[str] = []
    for name in bound:
        gateway_namespace, _, short = name.rpartition("/")
        gateway = gateways.get((gateway_namespace or namespace, short))
        if name != "mesh" and gateway is None:
            spec.note("gateways", f"no Gateway {name}")
        servers = (gateway or {}).get("spec", {}).get("servers") or []
        exposed += [pattern for server in servers for pattern in server.get("hosts") or []]
    served = [host for host in hosts if "mesh" in bound or any(host_matches(pattern, host) for pattern in exposed)]
    for host in served:
        if host in claimed:
            spec.note("hosts", f"{host} belongs to an older VirtualService")
    return [host for host in dict.fromkeys(served) if host not in claimed]


def _routes(http: Fields, namespace: str, port_of: PortOf) -> list[Json]:
    """One HTTPRoute -> an Envoy route for each of its match entries."""
    with http:
        name = http.take("name", "")
        matches = route_matches(http)
        action = _action(http, namespace, port_of)
        headers = _headers(http.child("headers"))
        host = headers.pop("host", None)
        if host and "route" in action:
            action["route"]["host_rewrite_literal"] = host
        faults = _fault(http.child("fault"))
    common = {"name": name, **action, **headers, **faults}
    return [{"match": match, **common} for match in matches]


def _action(http: Fields, namespace: str, port_of: PortOf) -> Json:
    """`direct_response`, `redirect` or `route`, with the metadata that names the service in the access log."""
    if "directResponse" in http:
        return {"direct_response": _direct_response(http.child("directResponse"))}
    if "redirect" in http:
        return {"redirect": _redirect(http.child("redirect"))}
    rewriting = _rewrite(http.child("rewrite"))
    destinations = [_destination(entry, namespace, port_of) for entry in http.children("route")]
    route: Json = {"timeout": http.take_duration("timeout", "0s"), **rewriting, **_retries(http.child("retries"))}
    route.update(_mirrors(http, namespace, port_of))
    if len(destinations) == 1:  # an only destination gets everything, whatever its weight says
        destinations[0]["weight"] = 1
    weighted = [entry for entry in destinations if entry["weight"]]
    if not weighted:
        return {"direct_response": {"status": 503, "body": {"inline_string": "no destination has a weight"}}}
    service = weighted[0]["name"].rpartition("|")[2]
    return {
        "route": {"weighted_clusters": {"clusters": weighted}, **route},
        "metadata": {"filter_metadata": {METADATA: {"service": service}}},
    }


def _destination(entry: Fields, namespace: str, port_of: PortOf) -> Json:
    with entry:
        with entry.child("destination") as destination:
            name = _cluster(destination, namespace, port_of)
        headers = _headers(entry.child("headers"))
        host = headers.pop("host", None)
        weight = entry.take("weight", 0)
    return {"name": name, "weight": weight, **headers, **({"host_rewrite_literal": host} if host else {})}


def _cluster(destination: Fields, namespace: str, port_of: PortOf) -> str:
    host = full_host(destination.take("host", ""), namespace)
    port = destination.take("port", {}).get("number") or port_of(host) or DEFAULT_PORT
    return cluster_name(host, port, destination.take("subset", ""))


def _retries(retries: Fields) -> Json:
    """Without `retries` Istio retries twice; `attempts: 0` turns that off."""
    with retries:
        attempts = retries.take("attempts", DEFAULT_RETRY_ATTEMPTS if not retries.rest() else 0)
        conditions = str(retries.take("retryOn", "") or DEFAULT_RETRY_ON).split(",")
        per_try = retries.take_duration("perTryTimeout")
        retries.take("retryRemoteLocalities")
    if attempts <= 0:
        return {}
    codes = [int(condition) for condition in conditions if condition.strip().isdigit()]
    words = [condition.strip() for condition in conditions if not condition.strip().isdigit()]
    if codes and "retriable-status-codes" not in words:
        words.append("retriable-status-codes")
    policy: Json = {
        "num_retries": attempts,
        "retry_on": ",".join(words),
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if codes:
        policy["retriable_status_codes"] = codes
    if per_try:
        policy["per_try_timeout"] = per_try
    return {"retry_policy": policy}


def _mirrors(http: Fields, namespace: str, port_of: PortOf) -> Json:
    policies = []
    percentage = http.take("mirrorPercentage")
    if "mirror" in http:
        with http.child("mirror") as mirror:
            policies.append(_mirror(_cluster(mirror, namespace, port_of), percentage))
    for entry in http.children("mirrors"):
        with entry, entry.child("destination") as destination:
            policies.append(_mirror(_cluster(destination, namespace, port_of), entry.take("percentage")))
    return {"request_mirror_policies": policies} if policies else {}


def _mirror(cluster: str, percentage: Any) -> Json:
    return {"cluster": cluster, "runtime_fraction": {"default_value": envoy_percentage(percentage)}}


def _rewrite(rewrite: Fields) -> Json:
    rendered: Json = {}
    with rewrite:
        if authority := rewrite.take("authority"):
            rendered["host_rewrite_literal"] = authority
        if uri := rewrite.take("uri"):
            rendered["prefix_rewrite"] = uri
        if regex := rewrite.take("uriRegexRewrite"):
            rendered["regex_rewrite"] = {"pattern": {"regex": regex["match"]}, "substitution": regex["rewrite"]}
    return rendered


REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def _redirect(redirect: Fields) -> Json:
    with redirect:
        code = redirect.take("redirectCode", 301)
        rendered: Json = {"response_code": REDIRECT_CODES.get(code, "MOVED_PERMANENTLY")}
        for istio, envoy in (("uri", "path_redirect"), ("authority", "host_redirect"), ("port", "port_redirect")):
            if value := redirect.take(istio):
                rendered[envoy] = value
        if scheme := redirect.take("scheme"):
            rendered["scheme_redirect"] = scheme
    return rendered


def _direct_response(direct: Fields) -> Json:
    with direct:
        rendered: Json = {"status": direct.take("status")}
        body = direct.take("body", {})
    if "string" in body:
        rendered["body"] = {"inline_string": body["string"]}
    elif "bytes" in body:
        rendered["body"] = {"inline_bytes": body["bytes"]}
    return rendered


def _headers(headers: Fields) -> Json:
    """Header operations in Envoy's form; `host` holds what a set of the Host header asks for."""
    rendered: Json = {}
    with headers:
        for side in ("request", "response"):
            with headers.child(side) as operations:
                sets, adds = operations.take("set", {}), operations.take("add", {})
                for name in list(sets):
                    if side == "request" and name.lower() in ("host", ":authority"):
                        rendered["host"] = sets[name]
                        sets = {key: value for key, value in sets.items() if key != name}
                options = [_header("OVERWRITE_IF_EXISTS_OR_ADD", *item) for item in sets.items()]
                options += [_header("APPEND_IF_EXISTS_OR_ADD", *item) for item in adds.items()]
                removed = operations.take("remove", [])
            if options:
                rendered[f"{side}_headers_to_add"] = options
            if removed:
                rendered[f"{side}_headers_to_remove"] = removed
    return rendered


def _header(action: str, name: str, value: str) -> Json:
    # Envoy expands %NAME% in values; Istio's values are literal.
    return {"header": {"key": name, "value": value.replace("%", "%%")}, "append_action": action}


def _fault(fault: Fields) -> Json:
    """The fault filter's configuration for one route; absent unless something is injected."""
    config: Json = {}
    with fault:
        if "delay" in fault:
            with fault.child("delay") as delay:
                config["delay"] = {
                    "fixed_delay": delay.take_duration("fixedDelay", "0s"),
                    "percentage": envoy_percentage(delay.take("percentage")),
                }
        if "abort" in fault:
            with fault.child("abort") as abort:
                config["abort"] = {
                    "http_status": abort.take("httpStatus", 503),
                    "percentage": envoy_percentage(abort.take("percentage")),
                }
    if not config:
        return {}
    kind = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
    return {"typed_per_filter_config": {FAULT_FILTER: {"@type": kind, **config}}}
