"""A node that runs nothing: it takes every pod, says that it is ready, and lets it go when it is deleted.

A pod annotated `fake/ready: "false"` never gets ready. The node is the one behind the recorded transcripts too.
"""

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from sandbox.kubernetes_api import NODES, PODS, Informer, KubernetesApi, KubernetesApiError, Object

NAME = "fake-1"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def running_status(pod: Object, address: str) -> Object:
    """The status of a pod whose containers run; it is ready unless it is annotated not to be."""
    ready = pod["metadata"].get("annotations", {}).get("fake/ready") != "false"
    word = str(ready)
    conditions = [
        {"type": type_, "status": value, "lastTransitionTime": _now(), "lastProbeTime": None}
        for type_, value in (
            ("Initialized", "True"),
            ("ContainersReady", word),
            ("Ready", word),
            ("PodScheduled", "True"),
        )
    ]
    statuses = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"fake://{container['image']}",
            "ready": ready,
            "started": True,
            "restartCount": 0,
            "lastState": {},
            "state": {"running": {"startedAt": _now()}},
        }
        for container in pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _now(),
        "conditions": conditions,
        "containerStatuses": statuses,
    }


class StandInNode:
    """Takes pods until it is cancelled. `await run()`."""

    def __init__(self, api: KubernetesApi, log_port: int = 10250) -> None:
        self._api = api
        self._log_port = log_port
        self._due: asyncio.Queue[Object] = asyncio.Queue()
        self._addresses = 0
        self._pods = Informer(api, PODS, lambda verb, pod: self._due.put_nowait(pod) if verb == "set" else None)

    async def run(self) -> None:
        """Register, then look after the pods."""
        await self._register()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            while True:
                pod = await self._due.get()
                try:
                    await self._look_after(pod)
                except KubernetesApiError as error:
                    if error.status not in (404, 409):
                        raise

    async def _register(self) -> None:
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
        status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": self._log_port}}}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "status": status}
        try:
            await self._api.create(NODES, None, body)
        except KubernetesApiError as error:
            if error.reason != "AlreadyExists":
                raise
            await self._api.merge_patch(NODES, None, NAME, {"status": status}, "status")

    async def _look_after(self, pod: Object) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self._api.create(PODS, namespace, binding, name, "binding")
        elif "deletionTimestamp" in metadata:
            await self._api.delete(PODS, namespace, name, metadata["uid"], 0)
        elif pod["status"].get("phase") == "Pending":
            self._addresses += 1
            status = running_status(pod, f"127.1.0.{self._addresses % 250 + 1}")
            await self._api.merge_patch(PODS, namespace, name, {"status": status}, "status")


async def main(kubeconfig: Path, log_port: int) -> None:
    """Be the node of that cluster until SIGTERM."""
    async with KubernetesApi.connect(kubeconfig) as api:
        working = asyncio.create_task(StandInNode(api, log_port).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        await asyncio.wait([working])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
