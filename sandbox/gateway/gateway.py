"""The gateway at work: watch objects, render, publish to Envoy; read Envoy's log, count, write."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sandbox import kubernetes_api as k8s
from sandbox.gateway.access_log import AccessLog
from sandbox.gateway.envoy import Envoy, EnvoyError
from sandbox.gateway.render import Objects, Rendered, render
from sandbox.gateway.traffic import Traffic
from sandbox.gateway.xds import XdsFiles

COALESCE_SECONDS = 0.005
"""Events that arrive together (a Deployment's pods, an apply of several files) are rendered once."""

DRAIN_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewayOptions:
    kubeconfig: Path
    state: Path
    port: int
    metrics_port: int
    admin_port: int


class Gateway:
    """Owns one Envoy, its configuration files, and the access log and metrics of what passes through it."""

    def __init__(self, options: GatewayOptions, api: k8s.KubernetesApi) -> None:
        self._options = options
        self._changed = asyncio.Event()
        self._informers = {
            resource: k8s.Informer(api, resource, lambda kind, item: self._changed.set())
            for resource in (
                k8s.VIRTUAL_SERVICES,
                k8s.GATEWAYS,
                k8s.DESTINATION_RULES,
                k8s.SERVICES,
                k8s.ENDPOINT_SLICES,
                k8s.PODS,
            )
        }
        self._files = XdsFiles(options.state / "xds")
        self._envoy = Envoy(options.state, self._files.directory, options.admin_port)
        self._access_log = AccessLog(options.state / "access.log")
        self._traffic = Traffic()
        self._unknown: list[str] = []
        self._serving = False

    async def run(self) -> None:
        """Serve until cancelled; then drain.

        Raises:
            EnvoyError: Envoy did not start, or ended by itself.
        """
        runner = await self._serve_http()
        reader: asyncio.Task[None] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for informer in self._informers.values():
                    tasks.create_task(informer.run())
                for informer in self._informers.values():
                    await informer.synced.wait()
                self._files.start(self._options.port)
                await self._files.publish(self._rendered(), None)
                await self._envoy.start()
                reader = asyncio.create_task(self._read_log())
                tasks.create_task(self._publish_changes())
                tasks.create_task(_fail_when_done(reader))
                self._serving = True
                log.info("serving on 127.0.0.1:%d", self._options.port)
        finally:
            await self._envoy.stop(DRAIN_SECONDS)
            if reader:
                await asyncio.wait([reader], timeout=1)
            self._access_log.close()
            await runner.cleanup()

    def _rendered(self) -> Rendered:
        items = {resource: informer.items for resource, informer in self._informers.items()}
        rendered = render(
            Objects(
                virtual_services=items[k8s.VIRTUAL_SERVICES],
                gateways=items[k8s.GATEWAYS],
                destination_rules=items[k8s.DESTINATION_RULES],
                services=items[k8s.SERVICES],
                endpoint_slices=items[k8s.ENDPOINT_SLICES],
                pods=items[k8s.PODS],
            )
        )
        for line in sorted(set(rendered.unknown) - set(self._unknown)):
            log.warning("left out: %s", line)
        self._unknown = rendered.unknown
        return rendered

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            started = time.monotonic()
            await asyncio.sleep(COALESCE_SECONDS)
            self._changed.clear()
            if await self._files.publish(self._rendered(), self._envoy):
                log.info("configuration published in %.0f ms", (time.monotonic() - started) * 1000)

    async def _read_log(self) -> None:
        async for line in self._envoy.lines():
            self._access_log.write(self._traffic.observe(line))

    async def _serve_http(self) -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics), web.get("/healthz", self._healthz)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._options.metrics_port).start()
        return runner

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._traffic.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok" if self._serving else "starting", status=200 if self._serving else 503)


async def _fail_when_done(reader: asyncio.Task[None]) -> None:
    """Envoy closes its output only when it ends."""
    await asyncio.shield(reader)
    raise EnvoyError("Envoy ended by itself; its reason is in envoy.log")
