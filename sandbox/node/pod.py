"""One pod on this node: its containers, its volumes, its status at the API server, its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import kubernetes_api as k8s
from sandbox.node.container import BackOff, Container, ContainerSettings, Plan
from sandbox.node.errors import ContainerConfigError
from sandbox.node.launch import launch_of, named_config_maps
from sandbox.node.probes import Check, probe_of
from sandbox.node.runtime import Runtime
from sandbox.node.status import ContainerState, Terminated, Waiting, pod_status
from sandbox.node.volumes import make_volume

DEFAULT_GRACE_SECONDS = 30

Json = dict[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """What the node gives to each of its pods. `report` is told (pod, reason, message)."""

    api: k8s.KubernetesApi
    runtime: Runtime
    check: Check
    back_off: BackOff
    directory: Path
    report: Callable[[Json, str, str], None]


class PodWorker:
    """Makes one pod (one uid) real. `run` ends when the pod is gone or the node is."""

    def __init__(self, pod: Json, ip: str, around: Surroundings) -> None:
        self.pod = pod
        self.ip = ip
        self._around = around
        self._directory = around.directory / f"{self.namespace}_{self.name}_{self.uid}"
        self._changed = asyncio.Event()
        self._deleted = asyncio.Event()
        self._reported: set[tuple[str, str]] = set()
        self._status: Json = pod.get("status") or {}
        self._title = f"pod {self.namespace}/{self.name}"
        self._start_time = self._status.get("startTime") or _now()
        self.containers = [self._container(spec) for spec in pod["spec"]["containers"]]

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def ready(self) -> bool:
        return all(container.state.ready for container in self.containers)

    @property
    def ended(self) -> bool:
        return all(isinstance(container.state.current, Terminated) for container in self.containers)

    def update(self, pod: Json) -> None:
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._deleted.set()

    def vanished(self) -> None:
        """The object is gone already: end without grace."""
        self.pod = {**self.pod, "metadata": {**self.pod["metadata"], "deletionGracePeriodSeconds": 0}}
        self._deleted.set()

    async def run(self) -> None:
        """Until the pod is deleted, its processes have ended, and the object is removed."""
        self._changed.set()
        writer = asyncio.create_task(self._write_status())
        try:
            if not self._deleted.is_set():
                for container in self.containers:
                    container.start()
            await self._deleted.wait()
            await self._end(self.pod["metadata"].get("deletionGracePeriodSeconds", DEFAULT_GRACE_SECONDS))
        finally:
            writer.cancel()
        await self._remove()

    async def shut_down(self, grace_seconds: float) -> None:
        """The node stops: end the processes and say that the pod is not ready; the object stays, to be run again."""
        await asyncio.gather(*(container.end(grace_seconds) for container in self.containers))
        with contextlib.suppress(k8s.KubernetesApiError, *k8s.NO_ANSWER):
            await self._patch_status()  # the next start corrects what an API server that is gone does not hear now

    async def _end(self, grace_seconds: float) -> None:
        """Off the endpoints first; then the preStop sleep, a part of the grace period; then the signals."""
        for container in self.containers:
            container.unready()
        self._around.report(self.pod, "Killing", "Stopping the pod's containers")
        await asyncio.gather(
            *(
                self._end_container(container, spec, grace_seconds)
                for container, spec in zip(self.containers, self.pod["spec"]["containers"], strict=True)
            )
        )

    async def _end_container(self, container: Container, spec: Json, grace_seconds: float) -> None:
        hook = (spec.get("lifecycle") or {}).get("preStop") or {}
        pause = min(float((hook.get("sleep") or {}).get("seconds", 0)), grace_seconds)
        await asyncio.sleep(pause)
        await container.end(grace_seconds - pause)

    async def _remove(self) -> None:
        """Say how it ended, remove the object (this uid only), and the volumes. The logs stay."""
        await k8s.until_answered(self._patch_status, self._title)
        delete = functools.partial(self._around.api.delete, k8s.PODS, self.namespace, self.name, self.uid, 0)
        await k8s.until_answered(delete, self._title)
        await asyncio.to_thread(shutil.rmtree, self._directory / "volumes", ignore_errors=True)

    def _container(self, spec: Json) -> Container:
        name = spec["name"]
        settings = ContainerSettings(
            key=f"{self.uid}-{name}",
            restart_policy=self.pod["spec"].get("restartPolicy", "Always"),
            back_off=self._around.back_off,
            logs=self._directory / name,
            plan=lambda: self._plan(spec),
            changed=self._changed.set,
            report=self._report,
        )
        return Container(settings, self._initial_state(spec), self._around.runtime, self._around.check)

    def _initial_state(self, spec: Json) -> ContainerState:
        """A container that ran under an earlier process of this node is one that was lost, and is restarted."""
        creating = ContainerState(spec["name"], spec["image"], Waiting("ContainerCreating"))
        for status in self._status.get("containerStatuses") or []:
            began = (status["state"].get("running") or status["state"].get("terminated") or {}).get("startedAt")
            if status["name"] == spec["name"] and (began or status["restartCount"]):
                message = "The container ended with the node's process"
                lost = Terminated(137, "ContainerStatusUnknown", began or self._start_time, _now(), message)
                restarts = status["restartCount"] + 1
                return ContainerState(spec["name"], spec["image"], Waiting("ContainerCreating"), lost, restarts)
        return creating

    async def _plan(self, spec: Json) -> Plan:
        if self.pod["spec"].get("initContainers"):
            raise ContainerConfigError("initContainers are not supported by this node")
        config_maps = {name: data for name in named_config_maps(self.pod) if (data := await self._config_map(name))}
        volumes = {
            volume["name"]: make_volume(volume, self._directory / "volumes" / volume["name"], config_maps)
            for volume in self.pod["spec"].get("volumes") or []
        }
        return Plan(
            launch=launch_of(self.pod, spec, self.ip, config_maps, volumes),
            grace_seconds=self.pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS),
            startup=probe_of(spec, "startupProbe", self.ip),
            readiness=probe_of(spec, "readinessProbe", self.ip),
            liveness=probe_of(spec, "livenessProbe", self.ip),
        )

    async def _config_map(self, name: str) -> dict[str, str] | None:
        try:
            return dict((await self._around.api.get(k8s.CONFIG_MAPS, self.namespace, name)).get("data") or {})
        except k8s.KubernetesApiError as error:
            if error.status == 404:
                return None
            raise ContainerConfigError(str(error)) from error
        except k8s.NO_ANSWER as error:
            raise ContainerConfigError(f"configmap {name}: {error}") from error

    def _report(self, reason: str, message: str) -> None:
        """Each thing is told once for a pod, however often it happens."""
        if (reason, message) not in self._reported:
            self._reported.add((reason, message))
            self._around.report(self.pod, reason, message)

    async def _write_status(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await k8s.until_answered(self._patch_status, self._title)

    async def _patch_status(self) -> None:
        status = pod_status(
            [container.state for container in self.containers],
            restart_policy=self.pod["spec"].get("restartPolicy", "Always"),
            ip=self.ip,
            start_time=self._start_time,
            now=_now(),
            previous=self._status,
        )
        body = {"metadata": {"uid": self.uid}, "status": status}
        await self._around.api.merge_patch(k8s.PODS, self.namespace, self.name, body, "status")
        self._status = status


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
