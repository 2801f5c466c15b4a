"""Istio's and Kubernetes' objects as Envoy's configuration: pure, without a process."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.gateway.clusters import workload_of
from sandbox.gateway.durations import envoy_duration
from sandbox.gateway.render import Objects, Rendered, render

HOST = "arithmetic.ai.svc.cluster.local"
Json = dict[str, Any]


def virtual_service(*http: Json, name: str = "arithmetic", created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Json:
    metadata = {"namespace": "ai", "name": name, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"hosts": [HOST], "http": list(http), **spec}}


def to(subset: str = "", **more: Any) -> Json:
    return {"destination": {"host": "arithmetic", **({"subset": subset} if subset else {})}, **more}


def destination_rule(*subsets: str, **spec: Any) -> Json:
    named = [{"name": f"v-{version}", "labels": {"version": version}} for version in subsets]
    metadata = {"namespace": "ai", "name": "arithmetic"}
    return {"metadata": metadata, "spec": {"host": "arithmetic", "subsets": named, **spec}}


def pod(name: str, version: str) -> Json:
    labels = {"app": "arithmetic", "version": version, "pod-template-hash": "5d4f"}
    owner = {"kind": "ReplicaSet", "name": f"arithmetic-{version}-5d4f", "controller": True}
    return {"metadata": {"namespace": "ai", "name": name, "labels": labels, "ownerReferences": [owner]}}


def endpoint(pod_name: str, address: str, **conditions: bool) -> Json:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": pod_name}}


def rendered(*virtual_services: Json, rule: Json | None = None, **more: Any) -> Rendered:
    metadata = {"namespace": "ai", "name": "arithmetic"}
    service = {"metadata": metadata, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8000}]}}
    slices = {
        "metadata": {"namespace": "ai", "name": "s", "labels": {"kubernetes.io/service-name": "arithmetic"}},
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [
            endpoint("a", "127.64.0.1", ready=True),
            endpoint("b", "127.64.0.2", ready=True),
            endpoint("c", "127.64.0.3", ready=False),
        ],
    }
    pods = [pod("a", "1"), pod("b", "2"), pod("c", "1")]
    return render(
        Objects(
            virtual_services={("ai", v["metadata"]["name"]): v for v in virtual_services},
            destination_rules={("ai", "arithmetic"): rule} if rule else {},
            services={("ai", "arithmetic"): service},
            endpoint_slices={("ai", "s"): slices},
            pods={("ai", p["metadata"]["name"]): p for p in pods},
            **more,
        )
    )


def only_route(http: Json) -> Json:
    [route] = rendered(virtual_service(http)).routes["virtual_hosts"][0]["routes"]
    return dict(route)


def addresses(assignment: Json) -> list[str]:
    found = [e for group in assignment["endpoints"] for e in group["lb_endpoints"]]
    return [e["endpoint"]["address"]["socket_address"]["address"] for e in found]


def test_clusters_are_named_as_istio_names_them() -> None:
    assert set(rendered(rule=destination_rule("1")).clusters) == {f"outbound|80||{HOST}", f"outbound|80|v-1|{HOST}"}


def test_a_subset_has_the_ready_pods_with_its_labels() -> None:
    endpoints = rendered(rule=destination_rule("1", "2", "none")).endpoints
    assert addresses(endpoints[f"outbound|80|v-1|{HOST}"]) == ["127.64.0.1"]
    assert addresses(endpoints[f"outbound|80|v-2|{HOST}"]) == ["127.64.0.2"]
    assert addresses(endpoints[f"outbound|80|v-none|{HOST}"]) == []
    assert addresses(endpoints[f"outbound|80||{HOST}"]) == ["127.64.0.1", "127.64.0.2"]


def test_an_endpoint_names_its_workload_and_version() -> None:
    [group] = rendered(rule=destination_rule("1")).endpoints[f"outbound|80|v-1|{HOST}"]["endpoints"]
    metadata = group["lb_endpoints"][0]["metadata"]["filter_metadata"]["istio"]
    assert metadata == {"workload": "arithmetic-1", "version": "1"}


def test_a_pod_without_an_owner_is_its_own_workload() -> None:
    assert workload_of({"metadata": {"name": "lonely"}}) == "lonely"


def test_weights_become_weighted_clusters_and_zero_is_left_out() -> None:
    route = only_route({"route": [to("v-1", weight=90), to("v-2", weight=10), to("v-3", weight=0)]})
    chosen = {entry["name"]: entry["weight"] for entry in route["route"]["weighted_clusters"]["clusters"]}
    assert chosen == {f"outbound|80|v-1|{HOST}": 90, f"outbound|80|v-2|{HOST}": 10}


def test_an_only_destination_gets_everything_whatever_its_weight() -> None:
    [cluster] = only_route({"route": [to("v-1", weight=0)]})["route"]["weighted_clusters"]["clusters"]
    assert cluster["weight"] > 0


def test_routes_keep_their_order_and_names() -> None:
    header = {"headers": {"x-token": {"exact": "t"}}}
    service = virtual_service(
        {"name": "sluice-canary", "match": [header], "route": [to("v-2")]}, {"name": "primary", "route": [to("v-1")]}
    )
    [host] = rendered(service).routes["virtual_hosts"]
    assert [route["name"] for route in host["routes"]] == ["sluice-canary", "primary"]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"uri": {"exact": "/a"}}, {"path": "/a"}),
        ({"uri": {"prefix": "/v1"}}, {"prefix": "/v1"}),
        ({"uri": {"regex": "/v[12]/.*"}}, {"safe_regex": {"regex": "/v[12]/.*"}}),
        ({"uri": {"prefix": "/V"}, "ignoreUriCase": True}, {"prefix": "/V", "case_sensitive": False}),
        (
            {"headers": {"x": {"exact": "1"}}},
            {"prefix": "/", "headers": [{"name": "x", "string_match": {"exact": "1"}}]},
        ),
        (
            {"headers": {"x": {"prefix": "1"}}},
            {"prefix": "/", "headers": [{"name": "x", "string_match": {"prefix": "1"}}]},
        ),
        (
            {"headers": {"x": {"regex": "1+"}}},
            {"prefix": "/", "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": "1+"}}}]},
        ),
        ({"headers": {"x": {}}}, {"prefix": "/", "headers": [{"name": "x", "present_match": True}]}),
        (
            {"withoutHeaders": {"x": {}}},
            {"prefix": "/", "headers": [{"name": "x", "present_match": True, "invert_match": True}]},
        ),
        (
            {"method": {"exact": "POST"}},
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        ),
        (
            {"queryParams": {"q": {"exact": "1"}}},
            {"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]},
        ),
    ],
)
def test_match_conditions(match: Json, expected: Json) -> None:
    assert only_route({"match": [match], "route": [to()]})["match"] == expected


def test_each_match_entry_is_a_route_of_its_own() -> None:
    http = {"match": [{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}], "route": [to()]}
    [host] = rendered(virtual_service(http)).routes["virtual_hosts"]
    assert [route["match"] for route in host["routes"]] == [{"path": "/a"}, {"path": "/b"}]


def test_without_a_timeout_a_route_has_no_limit() -> None:
    assert only_route({"route": [to()]})["route"]["timeout"] == "0s"
    assert only_route({"route": [to()], "timeout": "1m30s"})["route"]["timeout"] == "90s"


def test_istio_retries_twice_unless_told_otherwise() -> None:
    assert only_route({"route": [to()]})["route"]["retry_policy"]["num_retries"] == 2
    assert "retry_policy" not in only_route({"route": [to()], "retries": {"attempts": 0}})["route"]


def test_retries_are_as_given() -> None:
    retries = {"attempts": 1, "retryOn": "connect-failure,503", "perTryTimeout": "250ms"}
    policy = only_route({"route": [to()], "retries": retries})["route"]["retry_policy"]
    assert policy["num_retries"] == 1
    assert policy["retry_on"] == "connect-failure,retriable-status-codes"
    assert policy["retriable_status_codes"] == [503]
    assert policy["per_try_timeout"] == "0.25s"


def test_mirror_goes_to_its_own_cluster_with_its_share() -> None:
    route = only_route(
        {"route": [to("v-1")], "mirror": {"host": "arithmetic", "subset": "v-2"}, "mirrorPercentage": {"value": 12.5}}
    )
    [policy] = route["route"]["request_mirror_policies"]
    assert policy["cluster"] == f"outbound|80|v-2|{HOST}"
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 125_000, "denominator": "MILLION"}


def test_faults_are_configured_for_the_route_alone() -> None:
    fault = {"delay": {"fixedDelay": "2s", "percentage": {"value": 50}}, "abort": {"httpStatus": 418}}
    config = only_route({"route": [to()], "fault": fault})["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert config["delay"]["fixed_delay"] == "2s"
    assert config["abort"] == {"http_status": 418, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}}


def test_headers_of_route_and_destination_stay_apart() -> None:
    route = only_route(
        {
            "route": [to("v-1", headers={"response": {"add": {"x-version": "1"}}})],
            "headers": {"request": {"set": {"x-a": "50%"}, "remove": ["x-b"]}},
        }
    )
    [header] = route["request_headers_to_add"]
    assert header == {"header": {"key": "x-a", "value": "50%%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    assert route["request_headers_to_remove"] == ["x-b"]
    [cluster] = route["route"]["weighted_clusters"]["clusters"]
    assert cluster["response_headers_to_add"][0]["append_action"] == "APPEND_IF_EXISTS_OR_ADD"


def test_setting_the_host_header_rewrites_the_host() -> None:
    route = only_route({"route": [to()], "headers": {"request": {"set": {"Host": "other"}}}})
    assert route["route"]["host_rewrite_literal"] == "other"
    assert "request_headers_to_add" not in route


def test_rewrite_redirect_and_direct_response() -> None:
    rewritten = only_route({"route": [to()], "rewrite": {"uri": "/v2", "authority": "other"}})["route"]
    assert (rewritten["prefix_rewrite"], rewritten["host_rewrite_literal"]) == ("/v2", "other")
    redirect = only_route({"redirect": {"uri": "/new", "redirectCode": 308}})["redirect"]
    assert redirect == {"path_redirect": "/new", "response_code": "PERMANENT_REDIRECT"}
    direct = only_route({"directResponse": {"status": 503, "body": {"string": "closed"}}})["direct_response"]
    assert direct == {"status": 503, "body": {"inline_string": "closed"}}


def test_what_is_not_known_is_reported_by_its_path() -> None:
    service = virtual_service(
        {"corsPolicy": {"maxAge": "1h"}, "route": [to(tls={"mode": "x"})]}, tcp=[{"route": []}], name="odd"
    )
    rule = destination_rule("1", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}})
    assert rendered(service, rule=rule).unknown == [
        "VirtualService ai/odd: spec.http[0].route[0].tls",
        "VirtualService ai/odd: spec.http[0].corsPolicy",
        "VirtualService ai/odd: spec.tcp",
        "DestinationRule ai/arithmetic: spec.trafficPolicy.tls",
    ]


def test_an_unknown_condition_takes_its_match_entry_along() -> None:
    """Without the condition the entry would match requests that it excludes."""
    http = {"match": [{"sourceLabels": {"app": "x"}}, {"uri": {"exact": "/a"}}], "route": [to()]}
    result = rendered(virtual_service(http))
    assert [route["match"] for route in result.routes["virtual_hosts"][0]["routes"]] == [{"path": "/a"}]
    assert result.unknown == [
        "VirtualService ai/arithmetic: spec.http[0].match[0].sourceLabels"
        " (unknown condition; the match entry is left out)"
    ]


def test_hosts_are_served_for_the_mesh_or_where_a_gateway_exposes_them() -> None:
    gateway = {"metadata": {"namespace": "ai", "name": "edge"}, "spec": {"servers": [{"hosts": ["*.example.com"]}]}}
    hosts = ["a.example.com", HOST]
    edge = virtual_service({"route": [to()]}, hosts=hosts, gateways=["edge"])
    both = virtual_service({"route": [to()]}, hosts=hosts, gateways=["edge", "mesh"])
    gateways = {("ai", "edge"): gateway}
    assert rendered(edge, gateways=gateways).routes["virtual_hosts"][0]["domains"] == ["a.example.com"]
    assert rendered(both, gateways=gateways).routes["virtual_hosts"][0]["domains"] == hosts


def test_the_older_virtual_service_keeps_a_contested_host() -> None:
    old = virtual_service({"name": "old", "route": [to()]}, name="z", created="2025-01-01T00:00:00Z")
    new = virtual_service({"name": "new", "route": [to()]}, name="a")
    result = rendered(new, old)
    [host] = result.routes["virtual_hosts"]
    assert [route["name"] for route in host["routes"]] == ["old"]
    assert result.unknown == [f"VirtualService ai/a: spec.hosts ({HOST} belongs to an older VirtualService)"]


def test_connection_pool_and_outlier_detection() -> None:
    policy = {
        "connectionPool": {
            "tcp": {"maxConnections": 7, "connectTimeout": "1s"},
            "http": {"http1MaxPendingRequests": 3, "idleTimeout": "2s", "maxRequestsPerConnection": 9},
        },
        "outlierDetection": {"consecutive5xxErrors": 4, "interval": "5s", "baseEjectionTime": "30s"},
    }
    cluster = rendered(rule=destination_rule("1", trafficPolicy=policy)).clusters[f"outbound|80|v-1|{HOST}"]
    [limits] = cluster["circuit_breakers"]["thresholds"]
    assert (limits["max_connections"], limits["max_pending_requests"], limits["max_requests"]) == (7, 3, 2**32 - 1)
    assert cluster["connect_timeout"] == "1s"
    [options] = cluster["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"idle_timeout": "2s", "max_requests_per_connection": 9}
    assert cluster["outlier_detection"]["consecutive_5xx"] == 4
    assert cluster["outlier_detection"]["interval"] == "5s"


def test_a_subsets_policy_overrides_that_of_its_host() -> None:
    rule = destination_rule("1", trafficPolicy={"loadBalancer": {"simple": "RANDOM"}})
    rule["spec"]["subsets"][0]["trafficPolicy"] = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    clusters = rendered(rule=rule).clusters
    assert clusters[f"outbound|80||{HOST}"]["lb_policy"] == "RANDOM"
    assert clusters[f"outbound|80|v-1|{HOST}"]["lb_policy"] == "ROUND_ROBIN"


def test_equal_objects_render_equally() -> None:
    service = virtual_service({"route": [to("v-1", weight=50), to("v-2", weight=50)]})
    assert rendered(service, rule=destination_rule("1", "2")) == rendered(service, rule=destination_rule("1", "2"))


@pytest.mark.parametrize(("text", "expected"), [("0s", "0s"), ("250ms", "0.25s"), ("1m30s", "90s"), ("1.5h", "5400s")])
def test_durations(text: str, expected: str) -> None:
    assert envoy_duration(text) == expected


def test_a_duration_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'soon' is not a duration"):
        envoy_duration("soon")


def test_a_wrong_duration_is_reported_and_the_default_taken() -> None:
    result = rendered(virtual_service({"route": [to()], "timeout": "soon"}))
    assert result.routes["virtual_hosts"][0]["routes"][0]["route"]["timeout"] == "0s"
    assert result.unknown[0].startswith("VirtualService ai/arithmetic: spec.http[0].timeout ('soon' is not")
