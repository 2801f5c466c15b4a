"""Containers as processes of this machine.

A process shares the machine's file system. A volume mounted at a path therefore lies in a directory of the pod, and
values of env, command and args that begin with that path are rewritten to it; what is mounted at /tmp becomes TMPDIR.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from sandbox.node.bundles import find_bundle
from sandbox.node.errors import StartError
from sandbox.node.launch import Launch, Mount
from sandbox.node.logs import LogWriter
from sandbox.node.runtime import Exit, RunningContainer
from sandbox.processes import ProcessIdentity, die_with_parent

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAST_OUTPUT_SECONDS = 1.0


class ProcessRuntime:
    """Runs bundles as child processes, which end with the node however it ends."""

    name = "process://1"

    def __init__(self, bundles: Path, runtime_path: Path, pids: Path) -> None:
        self._bundles = bundles
        self._path = f"{runtime_path}{os.pathsep}{SYSTEM_PATH}"
        self._pids = pids

    async def pull(self, image: str) -> None:
        find_bundle(self._bundles, image)

    async def start(self, key: str, launch: Launch, log: Path) -> RunningContainer:
        bundle = find_bundle(self._bundles, launch.image)
        # Only what the pod says means paths in the container: this machine's own may begin with the same directories.
        args, own_env = _in_place([*launch.command, *launch.args], dict(launch.env), launch.mounts)
        argv = args if launch.command else [*bundle.entrypoint, *args]
        env = {"PATH": self._path, "LANG": "C.UTF-8", **bundle.env, **own_env}
        executable = shutil.which(argv[0], path=env["PATH"])
        if executable is None:
            raise StartError(f'exec: "{argv[0]}": executable file not found in {env["PATH"]}')
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                executable=executable,
                cwd=bundle.directory,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise StartError(f'exec: "{executable}": {error.strerror}') from error
        return RunningProcess(process, self._pids / f"{key}.json", LogWriter(log))

    async def remove_leftovers(self) -> None:
        for pid_file in self._pids.glob("*.json"):
            if identity := ProcessIdentity.read(pid_file):
                identity.signal(signal.SIGKILL)
            pid_file.unlink()


class RunningProcess:
    """One child and the copying of its output; its pid file exists as long as it runs."""

    def __init__(self, process: asyncio.subprocess.Process, pid_file: Path, log: LogWriter) -> None:
        assert process.stdout
        self._process = process
        self._pid_file = pid_file
        self._identity = ProcessIdentity.of(process.pid)
        if self._identity:
            self._identity.write(pid_file)
        self._output = asyncio.create_task(log.copy(process.stdout))

    async def wait(self) -> Exit:
        code = await self._process.wait()
        # What the process forked may hold the pipe open; the container has ended all the same.
        await asyncio.wait([self._output], timeout=LAST_OUTPUT_SECONDS)
        self._output.cancel()
        self._pid_file.unlink(missing_ok=True)
        return Exit.of(code if code >= 0 else 128 - code)

    async def end(self, grace_seconds: float) -> None:
        if self._identity is None:
            return
        self._identity.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), grace_seconds)
        except TimeoutError:
            self._identity.signal(signal.SIGKILL)
            await self._process.wait()


def _in_place(argv: list[str], env: dict[str, str], mounts: Mapping[str, Mount]) -> tuple[list[str], dict[str, str]]:
    if "/tmp" in mounts:
        env = {"TMPDIR": "/tmp", **env}

    def moved(text: str) -> str:
        for path, mount in mounts.items():
            if text == path or text.startswith(f"{path}/"):
                return f"{mount.volume.directory}{text[len(path) :]}"
        return text

    return [moved(part) for part in argv], {name: moved(value) for name, value in env.items()}
