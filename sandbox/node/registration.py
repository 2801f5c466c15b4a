"""The Node object: how the cluster knows of this node, where its kubelet port is, and that it lives."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from datetime import UTC, datetime
from typing import Any

import psutil

from sandbox import kubernetes_api as k8s
from sandbox.node.addresses import POD_NETWORK

HEARTBEAT_SECONDS = 10
RETRY_SECONDS = 0.2

Json = dict[str, Any]

log = logging.getLogger(__name__)


async def register(api: k8s.KubernetesApi, name: str, port: int, runtime: str) -> None:
    """Create the object unless it exists, and report ready; waits for an API server that does not answer yet.

    `runtime`: name and version of what runs the containers.
    """
    while True:
        try:
            await _create(api, name)
            await _report(api, name, port, runtime)
            log.info("node %s registered, kubelet port %d", name, port)
            return
        except k8s.NO_ANSWER as error:
            log.warning("node %s cannot register: %s", name, error)
            await asyncio.sleep(RETRY_SECONDS)


async def _create(api: k8s.KubernetesApi, name: str) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": platform.machine()}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": str(POD_NETWORK)},
    }
    try:
        await api.create(k8s.NODES, None, node)
    except k8s.KubernetesApiError as error:
        if error.status != 409:
            raise


async def keep_registered(api: k8s.KubernetesApi, name: str, port: int, runtime: str) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        try:
            await _report(api, name, port, runtime)
        except (k8s.KubernetesApiError, *k8s.NO_ANSWER) as error:
            log.warning("node %s cannot report: %s", name, error)


async def _report(api: k8s.KubernetesApi, name: str, port: int, runtime: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    await api.merge_patch(k8s.NODES, None, name, {"status": node_status(name, port, runtime, now)}, "status")


def node_status(name: str, port: int, runtime: str, now: str) -> Json:
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{psutil.virtual_memory().total // 1024}Ki", "pods": "110"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": f"the node runs pods by {runtime}",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    return {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [ready],
        "nodeInfo": {
            "architecture": platform.machine(),
            "operatingSystem": "linux",
            "osImage": platform.platform(),
            "kernelVersion": platform.release(),
            "kubeletVersion": "v1.36.0-sandbox",
            "kubeProxyVersion": "",
            "containerRuntimeVersion": runtime,
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
        },
    }
