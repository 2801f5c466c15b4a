"""A model's versioned Deployments on the Kubernetes API."""

from __future__ import annotations

import time
from asyncio import sleep as asyncio_sleep
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster import deployment
from sluice.cluster.api import DEPLOYMENT, POD, Api, Missing, Sleep
from sluice.errors import BadInput, Conflict, DeadlineExceeded
from sluice.ports import WorkloadSpec, WorkloadStatus

POLL_SECONDS = 0.5


class KubernetesWorkloads:
    """`ports.Workloads` of one model in one namespace; its Deployments are made from the file `template`."""

    def __init__(
        self,
        client: ApiClient,
        model: str,
        namespace: str,
        template: Path,
        removal: timedelta = timedelta(minutes=10),
        sleep: Sleep = asyncio_sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`removal`: how long `remove` waits; longer than the template's grace period and drain."""
        self._api = Api(client, sleep)
        self._model = model
        self._namespace = namespace
        self._template = template
        self._removal = removal
        self._sleep = sleep
        self._monotonic = monotonic

    async def ensure(self, spec: WorkloadSpec) -> None:
        body = deployment.manifest(self._read_template(), self._model, self._namespace, spec)
        try:
            made = await self._api.merge(DEPLOYMENT, self._namespace, body)
        except Missing:
            made = await self._api.create(DEPLOYMENT, self._namespace, body)
        if "deletionTimestamp" in made["metadata"]:
            raise Conflict(
                f"Deployment {self._namespace}/{made['metadata']['name']} is still being removed; wait for it"
            )

    async def status(self, version: str) -> WorkloadStatus:
        found = await self._api.get(DEPLOYMENT, self._namespace, deployment.name_of(self._model, version))
        return deployment.status(found, await self._pods(version))

    async def remove(self, version: str) -> None:
        name = deployment.name_of(self._model, version)
        deadline = self._monotonic() + self._removal.total_seconds()
        await self._delete(name)
        while left := await self._left(name, version):
            if self._monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"removal of {self._namespace}/{name}: {', '.join(left)} still there after "
                    f"{self._removal.total_seconds():.0f} s; look with: kubectl -n {self._namespace} describe {left[0]}"
                )
            await self._sleep(POLL_SECONDS)

    async def versions(self) -> Sequence[str]:
        found = await self._api.find(DEPLOYMENT, self._namespace, f"{deployment.MODEL_LABEL}={self._model}")
        return sorted(item["metadata"]["labels"]["version"] for item in found)

    async def revisions(self) -> Mapping[str, str]:
        found = await self._api.find(DEPLOYMENT, self._namespace, f"{deployment.MODEL_LABEL}={self._model}")
        return {item["metadata"]["labels"]["version"]: deployment.revision_of(item) for item in found}

    async def _delete(self, name: str) -> None:
        try:
            found = await self._api.get(DEPLOYMENT, self._namespace, name)
            await self._api.delete(DEPLOYMENT, self._namespace, name, found["metadata"]["uid"])
        except Missing:
            return

    async def _left(self, name: str, version: str) -> list[str]:
        """What of the version is still there, as kubectl names it."""
        pods = [f"pod/{pod['metadata']['name']}" for pod in await self._pods(version)]
        try:
            await self._api.get(DEPLOYMENT, self._namespace, name)
        except Missing:
            return pods
        return [*pods, f"deployment/{name}"]

    async def _pods(self, version: str) -> list[dict[str, Any]]:
        return await self._api.find(POD, self._namespace, f"app={self._model},version={version}")

    def _read_template(self) -> dict[str, Any]:
        try:
            template = yaml.safe_load(self._template.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise BadInput(f"{self._template}: {error}; the workload's template is a Deployment in YAML") from error
        if not isinstance(template, dict):
            raise BadInput(f"{self._template}: it has no Deployment; begin with manifests/base/workload.yaml")
        return template
