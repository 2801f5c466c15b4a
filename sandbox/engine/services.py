"""The engine's processes: each with a pid file and a log, left alone when it runs, and ended only if started here."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.engine.errors import StartFailed
from sandbox.processes import ProcessIdentity

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Service:
    """One process and how to see that it works."""

    name: str
    command: Sequence[str]
    answers: Callable[[], bool]
    start_seconds: float = 30.0


class Services:
    """The processes of one state directory."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def running(self, name: str) -> ProcessIdentity | None:
        identity = ProcessIdentity.read(self._pid_file(name))
        return identity if identity and identity.alive() else None

    def ensure(self, service: Service) -> bool:
        """Start it unless it runs, and wait until it answers; whether it was started. Raises StartFailed."""
        if self.running(service.name):
            return False
        log = self._state / "logs" / f"{service.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        process = _spawn(service.command, log)
        process.write(self._pid_file(service.name))
        self._await(service, process, log)
        return True

    def stop(self, name: str, grace_seconds: float) -> bool:
        """End what was started here; whether there was anything to end."""
        identity = self.running(name)
        if identity:
            identity.end(grace_seconds)
            with contextlib.suppress(ChildProcessError):  # another process has started it
                os.waitpid(identity.pid, os.WNOHANG)
        self._pid_file(name).unlink(missing_ok=True)
        return identity is not None

    def _await(self, service: Service, process: ProcessIdentity, log: Path) -> None:
        deadline = time.monotonic() + service.start_seconds
        while not service.answers():
            ended = not process.alive()
            if ended or time.monotonic() > deadline:
                self.stop(service.name, grace_seconds=5)
                reason = "ended while starting" if ended else f"does not answer after {service.start_seconds:g} s"
                raise StartFailed(f"{service.name} {reason}. The end of {log}:\n{_last_lines(log)}")
            time.sleep(POLL_SECONDS)

    def _pid_file(self, name: str) -> Path:
        return self._state / "pids" / f"{name}.json"


def _spawn(command: Sequence[str], log: Path) -> ProcessIdentity:
    """A process that leads a session of its own and outlives its parent, its output appended to `log`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        command[0],
        list(command),
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    identity = ProcessIdentity.of(pid)
    if identity is None:
        os.waitpid(pid, 0)
        raise StartFailed(f"{command[0]} ended at once. The end of {log}:\n{_last_lines(log)}")
    return identity


def http_answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_lines(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").strip().splitlines()[-8:])
