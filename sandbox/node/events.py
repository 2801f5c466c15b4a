"""Events about pods, as `kubectl describe` shows them; written in the background, so that they hold nothing up."""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from sandbox import kubernetes_api as k8s

WARNINGS = frozenset({"Failed", "BackOff", "Unhealthy"})

Json = dict[str, Any]

log = logging.getLogger(__name__)


class EventRecorder:
    def __init__(self, api: k8s.KubernetesApi, node: str) -> None:
        self._api = api
        self._node = node
        self._writes: set[asyncio.Task[None]] = set()

    def report(self, pod: Json, reason: str, message: str) -> None:
        write = asyncio.create_task(self._write(pod, reason, message))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """What is not written by now is dropped."""
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _write(self, pod: Json, reason: str, message: str) -> None:
        metadata, now = pod["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reference = {"apiVersion": "v1", "kind": "Pod", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": "Warning" if reason in WARNINGS else "Normal",
            "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._api.create(k8s.EVENTS, metadata["namespace"], event)
        except (k8s.KubernetesApiError, *k8s.NO_ANSWER) as error:
            log.info("event %s of pod %s not written: %s", reason, metadata["name"], error)
