"""The processes of one Airflow: started in a session of their own, found by it, and ended together.

A session is what all of them share: each component, LocalExecutor's workers, and every task, although tasks have their
own process groups and lose their parent when a worker is killed. A session is known by its leader's pid and start time:
while one member lives the kernel gives that pid to nobody else, so another process under it means that all are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from sandbox.processes import ProcessIdentity

COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server")
POLL_SECONDS = 0.1
KILL_SECONDS = 10.0


def spawn(command: Sequence[str], environment: Mapping[str, str], log: Path) -> ProcessIdentity:
    """Start `command` in a new session, its output appended to `log`; returns the session's leader."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    leader = ProcessIdentity.of(pid)
    if leader is None:
        os.waitpid(pid, 0)
        raise OSError(f"{command[0]} ended at once, see {log}")
    return leader


def members(leaders: Iterable[ProcessIdentity]) -> list[psutil.Process]:
    """All living processes of the leaders' sessions, and what these have started elsewhere."""
    sessions = {leader.pid for leader in leaders if ProcessIdentity.of(leader.pid) in (leader, None)}
    if not sessions:
        return []
    everything = list(psutil.process_iter(["ppid", "status"]))
    ours = {process.pid for process in everything if _session(process.pid) in sessions}
    while more := {process.pid for process in everything if process.info["ppid"] in ours} - ours:
        ours |= more
    return [each for each in everything if each.pid in ours and each.info["status"] != psutil.STATUS_ZOMBIE]


def component(leaders: Iterable[ProcessIdentity], name: str) -> list[psutil.Process]:
    """A component's main process, then all that descends from it; empty if it does not run."""
    for process in members(leaders):
        if _title(process) == name and _title(process.parent()) != name:
            with contextlib.suppress(psutil.NoSuchProcess):
                return [each for each in [process, *process.children(recursive=True)] if _lives(each)]
    return []


def kill_component(leaders: Sequence[ProcessIdentity], name: str) -> None:
    """SIGKILL to a component and all that descends from it at once; returns when they are gone."""
    doomed = component(leaders, name)
    _signal(doomed, signal.SIGKILL)
    _wait(lambda: not any(map(_lives, doomed)), KILL_SECONDS)


def end(leaders: Sequence[ProcessIdentity], grace_seconds: float) -> None:
    """Ask all processes to stop, wait, and kill what is left."""
    _signal(members(leaders), signal.SIGTERM)
    _wait(lambda: not members(leaders), grace_seconds)
    kill(leaders)


def kill(leaders: Sequence[ProcessIdentity]) -> None:
    """SIGKILL to everything at once; returns when nothing is left."""
    while remaining := members(leaders):
        _signal(remaining, signal.SIGKILL)
        _wait(lambda: not members(leaders), POLL_SECONDS)
    _reap(leaders)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _reap(leaders: Iterable[ProcessIdentity]) -> None:
    for leader in leaders:
        with contextlib.suppress(ChildProcessError):  # another process has started it, or it was reaped before
            os.waitpid(leader.pid, os.WNOHANG)


def _session(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _title(process: psutil.Process | None) -> str:
    """Which component's command line this is, "" for none."""
    if process is None:
        return ""
    with contextlib.suppress(psutil.NoSuchProcess):
        words = " ".join(process.cmdline()).replace("api_server", "api-server").split()
        return next((name for name in COMPONENTS if name in words[:6]), "")
    return ""
