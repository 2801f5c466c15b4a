"""The node's HTTP interface: logs as a kubelet serves them, the pods' metrics, health."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web

from sandbox.node.container import Container
from sandbox.node.federation import federate
from sandbox.node.logs import LogQuery, read_log
from sandbox.node.node import Node
from sandbox.node.status import Running


class NodeServer:
    """Serves on 127.0.0.1 until `close`."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self._node = node
        self._session = session
        app = web.Application()
        app.add_routes(
            [
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.get("/federate", self._federate),
                web.get("/healthz", self._healthz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def listen(self, port: int) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        namespace, pod, name = (request.match_info[key] for key in ("namespace", "pod", "container"))
        container = self._container(namespace, pod, name)
        if container is None:
            return web.Response(status=404, text=f'container "{name}" of pod "{namespace}/{pod}" is not on this node\n')
        previous = request.query.get("previous") == "true"
        path = container.log_path(previous=previous)
        if previous and not path.exists():
            return web.Response(status=400, text=f'previous terminated container "{name}" in pod "{pod}" not found\n')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for text in read_log(path, _query(request), lambda: not _writes_to(container, path)):
            await response.write(text)
        await response.write_eof()
        return response

    def _container(self, namespace: str, pod: str, name: str) -> Container | None:
        for worker in self._node.workers.values():
            if (worker.namespace, worker.name) == (namespace, pod):
                return next((c for c in worker.containers if c.state.name == name), None)
        return None

    async def _federate(self, request: web.Request) -> web.Response:
        text = await federate(self._session, self._node.scrape_targets())
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, request: web.Request) -> web.Response:
        serving = self._node.serving
        return web.Response(text="ok" if serving else "starting", status=200 if serving else 503)


def _writes_to(container: Container, path: object) -> bool:
    return isinstance(container.state.current, Running) and container.log_path() == path


def _query(request: web.Request) -> LogQuery:
    query = request.query
    since = query.get("sinceTime", "")
    if "sinceSeconds" in query:
        since = (datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))).isoformat()
    tail = query.get("tailLines")
    return LogQuery(
        follow=query.get("follow") == "true",
        timestamps=query.get("timestamps") == "true",
        tail_lines=int(tail) if tail else None,
        since=since,
    )
