"""The node: registers itself, takes pending pods, and keeps one worker for each pod that is bound to it."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Literal

from sandbox import kubernetes_api as k8s
from sandbox.node.addresses import POD_NETWORK, Addresses
from sandbox.node.federation import Target
from sandbox.node.pod import PodWorker, Surroundings
from sandbox.node.registration import keep_registered, register
from sandbox.node.status import unschedulable_status

SHUTDOWN_GRACE_SECONDS = 8.0

Json = dict[str, Any]


class Node:
    """Serves its pods from `run` until that is cancelled; `around` is what it gives to each of them."""

    def __init__(self, name: str, port: int, around: Surroundings, addresses: Addresses) -> None:
        self.name = name
        self.workers: dict[str, PodWorker] = {}
        """By uid."""
        self._port = port
        self._around = around
        self._api = around.api
        self._addresses = addresses
        self._pods = k8s.Informer(around.api, k8s.PODS, self._on_pod)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def serving(self) -> bool:
        return self._pods.synced.is_set() and not self._stopping

    async def run(self) -> None:
        await self._around.runtime.remove_leftovers()
        runtime = self._around.runtime.name
        await register(self._api, self.name, self._port, runtime)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pods.run())
                tasks.create_task(keep_registered(self._api, self.name, self._port, runtime))
        finally:
            await self._shut_down()

    def scrape_targets(self) -> list[Target]:
        """The ready pods that ask to be scraped, by the annotations that Prometheus' examples use."""
        targets = []
        for worker in self.workers.values():
            annotations = worker.pod["metadata"].get("annotations") or {}
            if worker.ready and annotations.get("prometheus.io/scrape") == "true":
                port, path = (
                    annotations.get("prometheus.io/port", "80"),
                    annotations.get("prometheus.io/path", "/metrics"),
                )
                targets.append(Target(f"http://{worker.ip}:{port}{path}", _target_labels(worker)))
        return targets

    def _on_pod(self, change: Literal["set", "delete"], pod: Json) -> None:
        worker = self.workers.get(pod["metadata"]["uid"])
        bound_to = pod["spec"].get("nodeName")
        if self._stopping:
            return
        if worker and change == "delete":
            worker.vanished()
        elif worker:
            worker.update(pod)
        elif change == "set" and bound_to == self.name:
            self._adopt(pod)
        elif change == "set" and not bound_to and not pod["metadata"].get("deletionTimestamp"):
            self._spawn(self._bind(pod))

    def _adopt(self, pod: Json) -> None:
        status = pod.get("status") or {}
        deleting = bool(pod["metadata"].get("deletionTimestamp"))
        if status.get("phase") in ("Succeeded", "Failed") and not deleting:
            return
        known = status.get("podIP")
        ip = known if known and _is_pod_address(known) else self._addresses.take()
        worker = PodWorker(pod, ip, self._around)
        self.workers[worker.uid] = worker
        worker.update(pod)
        self._spawn(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            if not self._stopping:
                del self.workers[worker.uid]

    async def _bind(self, pod: Json) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if missing := _missing_resources(pod):
            message = f"0/1 nodes are available: 1 Insufficient {', '.join(missing)}."
            status = unschedulable_status(message, _now(), pod.get("status") or {})
            if status:
                body = {"status": status}
                patch = functools.partial(self._api.merge_patch, k8s.PODS, namespace, name, body, "status")
                await k8s.until_answered(patch, f"pod {namespace}/{name}")
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": metadata["uid"]},
            "target": target,
        }
        bind = functools.partial(self._api.create, k8s.PODS, namespace, binding, name, "binding")
        await k8s.until_answered(bind, f"pod {namespace}/{name}")
        self._around.report(pod, "Scheduled", f"Successfully assigned {namespace}/{name} to {self.name}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shut_down(self) -> None:
        """End all pods' processes within a bound; their objects stay, and are run again by the next start."""
        self._stopping = True
        workers = list(self.workers.values())
        await asyncio.gather(*(worker.shut_down(SHUTDOWN_GRACE_SECONDS) for worker in workers))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _missing_resources(pod: Json) -> list[str]:
    """Extended resources (`nvidia.com/gpu`) that the pod asks for: this node has none."""
    asked: set[str] = set()
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for amounts in (resources.get("limits") or {}, resources.get("requests") or {}):
            asked |= {name for name, amount in amounts.items() if "/" in name and str(amount) != "0"}
    return sorted(asked)


def _target_labels(worker: PodWorker) -> dict[str, str]:
    labels = worker.pod["metadata"].get("labels") or {}
    chosen = {key: labels[key] for key in ("app", "version") if key in labels}
    return {"namespace": worker.namespace, "pod": worker.name, **chosen}


def _is_pod_address(text: str) -> bool:
    return ipaddress.ip_address(text) in POD_NETWORK


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
