"""Pods' containers as containers of a Docker Engine.

They belong to the engine: should the node be killed they run on, until its next start or the sandbox's `down` removes
them. The engine's client blocks, so that each container has a thread which follows it; other calls have threads of
their own, so that there is always one to end a container with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from sandbox.node import engine
from sandbox.node.creation import container_config
from sandbox.node.errors import StartError
from sandbox.node.launch import Launch
from sandbox.node.logs import LogWriter
from sandbox.node.references import split_reference
from sandbox.node.runtime import Exit, RunningContainer

P = ParamSpec("P")
T = TypeVar("T")

MAX_CONTAINERS = 240
"""Beyond the 110 pods that the node offers to take."""
MAX_CALLS = 16


class ContainerRuntime:
    """Runs images that are referred to by digest; `state` names this node among all that use the engine."""

    def __init__(self, client: engine.Client, state: Path) -> None:
        """Raises EngineError."""
        self.name = f"docker://{engine.version_of(client)}"
        self._client = client
        self._state = state
        self._followers = ThreadPoolExecutor(MAX_CONTAINERS, thread_name_prefix="container")
        self._callers = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="engine")

    async def pull(self, image: str) -> None:
        repository, digest = split_reference(image)
        await self._call(engine.pull, self._client, repository, f"sha256:{digest}")

    async def start(self, key: str, launch: Launch, log: Path) -> RunningContainer:
        for mount in launch.mounts.values():
            if mount.volume.for_everybody:
                mount.volume.directory.chmod(0o777)
        user = await self._call(engine.user_of_image, self._client, launch.image)
        config = container_config(launch, user)
        starting = self._call(engine.start, self._client, key, config, self._state)
        try:
            output = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: what it starts must have ended before the pod is said to be gone.
            await self._undo(key, starting)
            raise
        return self._followed(key, output, LogWriter(log))

    async def remove_leftovers(self) -> None:
        await self._call(engine.remove_containers_of, self._client, self._state)

    async def _undo(self, key: str, starting: asyncio.Future[engine.Output]) -> None:
        with contextlib.suppress(StartError):
            (await starting).close()
            await self._call(engine.remove, self._client, key)

    def _followed(self, key: str, output: engine.Output, log: LogWriter) -> RunningContainer:
        loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()

        def feed(chunk: bytes) -> None:
            loop.call_soon_threadsafe(lines.feed_data, chunk)

        copied = asyncio.create_task(log.copy(lines))
        ended = loop.run_in_executor(self._followers, engine.follow, self._client, key, output, feed)
        ended.add_done_callback(lambda _: lines.feed_eof())
        return _Followed(ended, copied, lambda grace: self._call(engine.stop, self._client, key, grace))

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._callers, lambda: function(*args, **kwargs))


class _Followed:
    """A container's thread and the copying of its output."""

    def __init__(
        self, ended: asyncio.Future[Exit], copied: asyncio.Task[None], stop: Callable[[float], asyncio.Future[None]]
    ) -> None:
        self._ended = ended
        self._copied = copied
        self._stop = stop

    async def wait(self) -> Exit:
        exit = await self._ended
        await self._copied
        return exit

    async def end(self, grace_seconds: float) -> None:
        await self._stop(grace_seconds)
