"""Envoy's configuration files, replaced by rename in the order that loses no request.

Make before break: endpoints, then new clusters, and only when Envoy has them the routes that use them; clusters that no
route uses any more go last. A file of endpoints holds one cluster: Envoy refuses more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from sandbox.gateway.envoy_config import config_source, listener
from sandbox.gateway.render import Rendered
from sandbox.processes import replace_file

Json = dict[str, Any]
TYPE_URLS = {
    "listener": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "cluster": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "endpoints": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}


class Progress(Protocol):
    """Tells when Envoy has taken a version of its clusters or routes."""

    async def clusters_active(self, version: str) -> None: ...

    async def routes_active(self, version: str) -> None: ...


class XdsFiles:
    """The directory that Envoy watches. `publish` writes what changed; nothing changed means nothing written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._written: dict[Path, list[Json]] = {}
        self._clusters: dict[str, Json] = {}
        self._version = 0

    def start(self, port: int) -> None:
        """Forget files of an earlier run (their order against this one's is unknown) and write the listener."""
        for old in self.directory.glob("**/*.json"):
            old.unlink()
        self._write("listeners.json", [_typed("listener", listener(port, self.directory))])

    async def publish(self, rendered: Rendered, progress: Progress | None) -> bool:
        """Write `rendered`; with `progress`, step by step as Envoy takes it. Returns whether anything changed."""
        clusters = {name: self._with_endpoints(name, cluster) for name, cluster in rendered.clusters.items()}
        changed = [self._write(_file(name), [_typed("endpoints", e)]) for name, e in rendered.endpoints.items()]
        changed.append(version := self._write_clusters({**self._clusters, **clusters}))
        if version and progress:
            await progress.clusters_active(version)
        changed.append(version := self._write("routes.json", [_typed("routes", rendered.routes)]))
        if version and progress:
            await progress.routes_active(version)
        if self._clusters.keys() - clusters.keys():
            self._write_clusters(clusters)
        return any(changed)

    def _with_endpoints(self, name: str, cluster: Json) -> Json:
        return {**cluster, "eds_cluster_config": {"eds_config": config_source(self.directory / _file(name))}}

    def _write_clusters(self, clusters: dict[str, Json]) -> str | None:
        self._clusters = clusters
        return self._write("clusters.json", [_typed("cluster", clusters[name]) for name in sorted(clusters)])

    def _write(self, name: str, resources: list[Json]) -> str | None:
        """The new version, or None if the file says this already."""
        path = self.directory / name
        if self._written.get(path) == resources:
            return None
        self._version += 1
        version = str(self._version)
        replace_file(path, json.dumps({"version_info": version, "resources": resources}, indent=1))
        self._written[path] = resources
        return version


def _file(cluster: str) -> str:
    return f"endpoints/{cluster.replace('|', '_').replace('/', '_')}.json"


def _typed(kind: str, resource: Json) -> Json:
    return {"@type": TYPE_URLS[kind], **resource}
