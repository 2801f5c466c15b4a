"""The cluster and the gateway as an outsider sees them: raw objects and the access log, nothing of the library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

NAMESPACE = "ai-inference"
TIME_PER_TOKEN = "serving_time_per_output_token_seconds_bucket"
_PATHS = {
    "virtualservices": "/apis/networking.istio.io/v1",
    "destinationrules": "/apis/networking.istio.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "deployments": "/apis/apps/v1",
}


class Cluster:
    """One model's objects, and the requests that reached its versions."""

    def __init__(self, described: Mapping[str, Any], model: str) -> None:
        self._model = model
        self._log = Path(described["access_log"])
        self._metrics = described["federate_url"]
        self._versions: dict[str, str] = {}
        self._http = httpx.Client(base_url=described["api_url"], timeout=10, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def get(self, plural: str, name: str = "") -> dict[str, Any]:
        answer = self._http.get(f"{_PATHS[plural]}/namespaces/{NAMESPACE}/{plural}{'/' if name else ''}{name}")
        answer.raise_for_status()
        return dict(answer.json())

    # --- objects -----------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, int]:
        """Percent of users' requests by version, as the VirtualService says."""
        routes = self.get("virtualservices", self._model)["spec"]["http"]
        primary = next(route for route in routes if route["name"] == "primary")
        return {_version(each["destination"]["subset"]): each.get("weight", 100) for each in primary["route"]}

    @property
    def routes(self) -> list[str]:
        return [route["name"] for route in self.get("virtualservices", self._model)["spec"]["http"]]

    @property
    def record(self) -> dict[str, str]:
        """The release's record: annotations without their prefix."""
        annotations = self.get("virtualservices", self._model)["metadata"]["annotations"]
        return {name.removeprefix("sluice.dev/"): value for name, value in annotations.items() if "sluice.dev/" in name}

    @property
    def subsets(self) -> list[str]:
        named = self.get("destinationrules", self._model)["spec"]["subsets"]
        return sorted(_version(subset["name"]) for subset in named)

    @property
    def lease_holder(self) -> str:
        return str(self.get("leases", f"sluice-{self._model}")["spec"].get("holderIdentity") or "")

    @property
    def lease_renewed_at(self) -> float:
        """Epoch seconds."""
        spec = self.get("leases", f"sluice-{self._model}")["spec"]
        return datetime.fromisoformat(spec["renewTime"]).timestamp()

    @property
    def deployments(self) -> list[str]:
        """Versions that have one."""
        items = self.get("deployments")["items"]
        return sorted(item["metadata"]["labels"]["version"] for item in items)

    # --- requests ----------------------------------------------------------------------------------------------------

    def users_starts(self, version: str) -> list[float]:
        """When users' requests started at a version; epoch seconds."""
        started = self._logged('"type":"attempt_started"', f'"destination_version":"{version}"', '"traffic":"user"')
        return sorted(datetime.fromisoformat(entry["start_time"]).timestamp() for entry in started)

    def version_of(self, request_id: str) -> str:
        """Which version a request was sent to; "" if the log does not say."""
        if request_id not in self._versions:
            sent = self._logged(f'"request_id":"{request_id}"')
            self._versions[request_id] = next((entry["destination_version"] for entry in sent), "")
        return self._versions[request_id]

    def _logged(self, *marks: str) -> Iterator[dict[str, Any]]:
        for path in (self._log.with_name(f"{self._log.name}.1"), self._log):
            if not path.exists():
                continue
            with path.open() as lines:
                for line in lines:
                    if all(mark in line for mark in marks) and line.endswith("\n"):
                        yield json.loads(line)

    def time_per_token_buckets(self, version: str) -> dict[float, float]:
        """Users' requests so far by upper bound (seconds) of their time per output token."""
        text = httpx.get(self._metrics, timeout=10, trust_env=False).text
        wanted = {"version": version, "traffic": "user"}
        found: dict[float, float] = {}
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            if sample.name == TIME_PER_TOKEN and wanted.items() <= sample.labels.items():
                edge = float(sample.labels["le"])
                found[edge] = found.get(edge, 0.0) + sample.value
        return found


def _version(subset: str) -> str:
    return subset.removeprefix("v-")
