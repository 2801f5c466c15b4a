"""All watched objects -> the whole of what Envoy is told. Pure: equal objects give an equal configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.gateway.clusters import render_clusters
from sandbox.gateway.hosts import service_host
from sandbox.gateway.routes import route_configuration

Json = dict[str, Any]
Items = Mapping[tuple[str, str], Json]


@dataclass(frozen=True)
class Objects:
    """What the gateway watches, each by (namespace, name)."""

    virtual_services: Items = field(default_factory=dict)
    gateways: Items = field(default_factory=dict)
    destination_rules: Items = field(default_factory=dict)
    services: Items = field(default_factory=dict)
    endpoint_slices: Items = field(default_factory=dict)
    pods: Items = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """`clusters` and `endpoints` by cluster name, one route configuration, and what was left out, by field path."""

    clusters: dict[str, Json]
    endpoints: dict[str, Json]
    routes: Json
    unknown: list[str]


def render(objects: Objects) -> Rendered:
    ports = {service_host(s): [p["port"] for p in s["spec"].get("ports") or []] for s in objects.services.values()}

    def port_of(host: str) -> int | None:
        known = ports.get(host, [])
        return known[0] if len(known) == 1 else None

    routes, unknown = route_configuration(objects.virtual_services.values(), objects.gateways.values(), port_of)
    clusters = render_clusters(
        objects.services.values(),
        objects.destination_rules.values(),
        objects.endpoint_slices.values(),
        objects.pods,
    )
    return Rendered(clusters.clusters, clusters.endpoints, routes, unknown + clusters.unknown)
