"""Probes as a kubelet makes them: thresholds over periodic checks, and quick looks in between while the answer is no.

A kubelet may probe an unready container "at times other than the configured periodSeconds interval to make the Pod
ready faster" (Kubernetes' documentation); here it looks every 100 ms. Only the periodic checks count as failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from sandbox.node.errors import ContainerConfigError

EAGER_SECONDS = 0.1

Json = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """An HTTP probe with Kubernetes' defaults; times in seconds."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


def probe_of(container: Json, kind: str, ip: str) -> Probe | None:
    """The container's probe `kind` (`startupProbe`, `readinessProbe`, `livenessProbe`).

    Raises:
        ContainerConfigError: another action than httpGet, or a port name that the container does not define.
    """
    spec = container.get(kind)
    if spec is None:
        return None
    action = spec.get("httpGet")
    if action is None:
        raise ContainerConfigError(f"{kind} of container {container['name']}: only httpGet is supported by this node")
    scheme = action.get("scheme", "HTTP").lower()
    port = _port(container, action["port"])
    return Probe(
        url=f"{scheme}://{action.get('host') or ip}:{port}{action.get('path') or '/'}",
        headers={header["name"]: header["value"] for header in action.get("httpHeaders") or []},
        initial_delay_seconds=spec.get("initialDelaySeconds") or 0,
        period_seconds=spec.get("periodSeconds") or 10,
        timeout_seconds=spec.get("timeoutSeconds") or 1,
        success_threshold=spec.get("successThreshold") or 1,
        failure_threshold=spec.get("failureThreshold") or 3,
    )


def _port(container: Json, port: int | str) -> int:
    named = {entry.get("name"): entry["containerPort"] for entry in container.get("ports") or []}
    if isinstance(port, int):
        return port
    if port not in named:
        raise ContainerConfigError(f"container {container['name']} has no port named {port}")
    return int(named[port])


@dataclass(frozen=True)
class Streak:
    """How often in a row a probe gave the same result, and the verdict that this amounts to (None: not yet any)."""

    result: bool | None = None
    length: int = 0
    verdict: bool | None = None

    def after(self, result: bool, probe: Probe) -> Streak:
        length = self.length + 1 if result == self.result else 1
        threshold = probe.success_threshold if result else probe.failure_threshold
        return Streak(result, length, result if length >= threshold else self.verdict)


Check = Callable[[Probe], Awaitable[bool]]


async def verdicts(probe: Probe, check: Check) -> AsyncIterator[bool]:
    """Each change of the probe's verdict, beginning with the first."""
    await asyncio.sleep(probe.initial_delay_seconds)
    loop = asyncio.get_running_loop()
    streak = Streak()
    due = loop.time()
    while True:
        result = await check(probe)
        periodic = loop.time() >= due
        if result or periodic:
            before, streak = streak, streak.after(result, probe)
            if streak.verdict is not None and streak.verdict != before.verdict:
                yield streak.verdict
        if periodic:
            due = loop.time() + probe.period_seconds
        # A run of successes is counted by periods; the first one after a failure may be seen early.
        eager = streak.verdict is not True and streak.result is not True
        await asyncio.sleep(min(EAGER_SECONDS, probe.period_seconds) if eager else max(0.0, due - loop.time()))


def http_check(session: aiohttp.ClientSession) -> Check:
    async def check(probe: Probe) -> bool:
        """200–399 is a success, as for a kubelet."""
        limit = aiohttp.ClientTimeout(total=probe.timeout_seconds)
        headers = {"User-Agent": "kube-probe/sandbox", "Connection": "close", **probe.headers}
        try:
            async with session.get(
                probe.url, timeout=limit, headers=headers, allow_redirects=False, ssl=False
            ) as answer:
                return 200 <= answer.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return check
