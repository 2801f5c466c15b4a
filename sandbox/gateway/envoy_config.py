"""Envoy's own configuration: the bootstrap, the listener, and how access is logged. Pure.

Envoy writes every access-log entry as one JSON line to its standard output, where the gateway reads it: one when an
upstream stream starts, one when it ends, one when the downstream request ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox.gateway.routes import FAULT_FILTER, METADATA, ROUTE_CONFIGURATION

Json = dict[str, Any]

STREAM_IDLE_TIMEOUT = "300s"
"""A stream that carries nothing for this long is ended; requests have no other limit unless a route sets one."""

PROBE_HEADER = "x-sluice-probe"

LOG_FORMAT = {
    "log_type": "%ACCESS_LOG_TYPE%",
    "start_time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "route_name": "%ROUTE_NAME%",
    "probe": f"%REQ({PROBE_HEADER.upper()})%",
    "service": f"%METADATA(ROUTE:{METADATA}:service)%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "subset_version": f"%CLUSTER_METADATA({METADATA}:version)%",
    "pod_version": f"%UPSTREAM_METADATA({METADATA}:version)%",
    "workload": f"%UPSTREAM_METADATA({METADATA}:workload)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "response_duration_ms": "%RESPONSE_DURATION%",
    "bytes_sent": "%BYTES_SENT%",
    "downstream": "%DOWNSTREAM_REMOTE_ADDRESS%",
}


def bootstrap(xds: Path, admin_port: int) -> Json:
    return {
        "node": {"id": "sandbox-gateway", "cluster": "sandbox"},
        "admin": {"address": _socket("127.0.0.1", admin_port)},
        "dynamic_resources": {
            "lds_config": config_source(xds / "listeners.json"),
            "cds_config": config_source(xds / "clusters.json"),
        },
    }


def config_source(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def listener(port: int, xds: Path) -> Json:
    return {
        "name": "gateway",
        "address": _socket("127.0.0.1", port),
        "filter_chains": [
            {"filters": [_filter("envoy.filters.network.http_connection_manager", _connection_manager(xds))]}
        ],
    }


def _connection_manager(xds: Path) -> Json:
    filters = "type.googleapis.com/envoy.extensions.filters"
    router = {
        "@type": f"{filters}.http.router.v3.Router",
        "upstream_log": [_stdout_log()],
        "upstream_log_options": {"flush_upstream_log_on_upstream_stream": True},
    }
    request_ids = "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
    return {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "rds": {"route_config_name": ROUTE_CONFIGURATION, "config_source": config_source(xds / "routes.json")},
        "http_filters": [
            _filter(FAULT_FILTER, {"@type": f"{filters}.http.fault.v3.HTTPFault"}),
            _filter("envoy.filters.http.router", router),
        ],
        "access_log": [_stdout_log()],
        "generate_request_id": True,
        # A caller's id is kept as it came; by default Envoy writes the sampling decision into it.
        "preserve_external_request_id": True,
        "request_id_extension": {"typed_config": {"@type": request_ids, "pack_trace_reason": False}},
        "stream_idle_timeout": STREAM_IDLE_TIMEOUT,
        "normalize_path": True,
    }


def _stdout_log() -> Json:
    kind = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": kind, "log_format": {"json_format": LOG_FORMAT}},
    }


def _filter(name: str, config: Json) -> Json:
    return {"name": name, "typed_config": config}


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}
