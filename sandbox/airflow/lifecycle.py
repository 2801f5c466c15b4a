"""Airflow up, down, and in between: what the commands do, and what a chaos test needs to hurt it on purpose.

The pid file in the home lists the leaders of all sessions that belong to the installation: standalone's, and those of
components that were started again by themselves. Starting and stopping exclude each other through a lock on the home.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from sandbox.airflow import processes
from sandbox.airflow.errors import PortTaken, StartFailed
from sandbox.airflow.settings import HOST, Settings, environment, fingerprint, secrets_of, wrapper, write_files
from sandbox.processes import ProcessIdentity, replace_file

HEALTH_PARTS = {
    "metadatabase": "database",
    "scheduler": "scheduler",
    "triggerer": "triggerer",
    "dag_processor": "DAG processor",
}
START_SECONDS = 240.0
GRACE_SECONDS = 8.0
ANSWER_SECONDS = 20.0
POLL_SECONDS = 0.25

Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """What the pid file says."""

    port: int
    fingerprint: str
    leaders: tuple[ProcessIdentity, ...]


def up(settings: Settings, say: Say, caller: Mapping[str, str] | None = None, seconds: float = START_SECONDS) -> None:
    """Start Airflow and wait until all parts are healthy; nothing happens if it runs with these settings and this code.

    What an earlier start left half-dead, or runs with other settings, is taken down first.
    Raises PortTaken before anything is started, and StartFailed (nothing is left running then).
    """
    found = secrets_of(settings.home)
    variables = environment(settings, found, os.environ if caller is None else caller)
    mark = fingerprint(variables, settings.plugins)
    with _exclusive(settings):
        running = _read(settings)
        if running and running.fingerprint == mark and all(healthy(settings).values()):
            say(f"Airflow is up already: {settings.url}")
            return
        if running and processes.members(running.leaders):
            say("Airflow runs with other settings, other plugin code, or only in part: it is restarted")
        _down(settings, GRACE_SECONDS)
        _require_free(settings)
        write_files(settings.home)
        began = time.time()
        offset = settings.log.stat().st_size if settings.log.exists() else 0
        leader = processes.spawn([str(wrapper(settings.home)), "standalone"], variables, settings.log)
        _write(settings, Running(settings.port, mark, (leader,)))
        try:
            _await_health(settings, leader, began, offset, seconds, say)
        except BaseException:
            _down(settings, 0)
            raise


def down(settings: Settings, say: Say, grace_seconds: float = GRACE_SECONDS) -> None:
    """Stop everything of this Airflow, running tasks included; nothing happens if nothing runs."""
    with _exclusive(settings):
        say("Airflow is down" if _down(settings, grace_seconds) else "Airflow was not running")


def kill_all(settings: Settings) -> None:
    """SIGKILL to everything of this Airflow at once, as a power cut would; `up` starts it again."""
    running = _read(settings)
    processes.kill(running.leaders if running else ())


def kill_component(settings: Settings, name: str) -> None:
    """SIGKILL to one of `processes.COMPONENTS` and all that it started; `start_component` brings it back."""
    running = _read(settings)
    processes.kill_component(running.leaders if running else (), name)


def start_component(settings: Settings, name: str, caller: Mapping[str, str] | None = None) -> None:
    """Start one component again (standalone does not); returns at once. Raises StartFailed if Airflow does not run."""
    with _exclusive(settings):
        running = _read(settings)
        if running is None:
            raise StartFailed(
                f"{name}: Airflow was never started in {settings.home}; start it with {command(settings)}"
            )
        variables = environment(settings, secrets_of(settings.home), os.environ if caller is None else caller)
        leader = processes.spawn([str(wrapper(settings.home)), name], variables, settings.log)
        _write(settings, Running(running.port, running.fingerprint, (*running.leaders, leader)))


def component_pids(settings: Settings, name: str) -> list[int]:
    """Pids of one of `processes.COMPONENTS`: its main process, then its children (the scheduler's: all tasks too)."""
    running = _read(settings)
    return [process.pid for process in processes.component(running.leaders if running else (), name)]


def all_pids(settings: Settings) -> list[int]:
    """Pids of everything that belongs to this Airflow."""
    running = _read(settings)
    return [process.pid for process in processes.members(running.leaders if running else ())]


def healthy(settings: Settings, since: float = 0.0) -> dict[str, bool]:
    """Which parts are healthy, by names for people; heartbeats older than `since` (epoch seconds) do not count."""
    health = _ask(settings, "/api/v2/monitor/health")
    # The API for tasks is made at its first request, for seconds: if that were a task's, it would time out and wait.
    tasks = bool(health) and bool(_ask(settings, "/execution/health"))
    parts = {label: _is_healthy(health.get(part) or {}, since) for part, label in HEALTH_PARTS.items()}
    return {"API server": bool(health), "API for tasks": tasks, **parts}


def command(settings: Settings, verb: str = "up") -> str:
    """What a person types."""
    return f"python -m sandbox.airflow {verb} --home {settings.home} --port {settings.port}"


def _ask(settings: Settings, path: str) -> dict[str, Any]:
    try:
        answer = httpx.get(settings.url + path, timeout=ANSWER_SECONDS, trust_env=False)
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found
    except (httpx.HTTPError, ValueError):
        return {}


def _is_healthy(part: Mapping[str, Any], since: float) -> bool:
    beat = next((value for key, value in part.items() if key.startswith("latest_")), None)
    if beat is not None and datetime.fromisoformat(beat).timestamp() < since:
        return False
    return part.get("status") == "healthy"


def _await_health(
    settings: Settings, leader: ProcessIdentity, began: float, offset: int, seconds: float, say: Say
) -> None:
    shown: set[str] = set()
    say(f"Airflow is starting (log: {settings.log})")
    while True:
        state = healthy(settings, began)
        for label in [label for label, good in state.items() if good and label not in shown]:
            shown.add(label)
            say(f"  {label} is healthy after {time.time() - began:.0f} s")
        if all(state.values()):
            return
        missing = ", ".join(label for label, good in state.items() if not good)
        if not leader.alive():
            raise StartFailed(f"Airflow ended while starting ({missing} not there yet).{_last_words(settings, offset)}")
        if time.time() - began > seconds:
            raise StartFailed(
                f"Airflow is not healthy after {seconds:.0f} s: {missing}.{_last_words(settings, offset)}"
            )
        time.sleep(POLL_SECONDS)


def _last_words(settings: Settings, offset: int) -> str:
    with settings.log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()[-8:]
    return f"The last lines of {settings.log}:\n" + "\n".join(f"  {line}" for line in lines)


def _require_free(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, settings.port))
        except OSError as error:
            raise PortTaken(
                f"Port {settings.port} of {HOST} is taken by another program: "
                f"end that, or choose another port with --port (nothing was started)"
            ) from error


def _down(settings: Settings, grace_seconds: float) -> bool:
    running = _read(settings)
    there = bool(running and processes.members(running.leaders))
    if running:
        processes.end(running.leaders, grace_seconds)
        _pid_file(settings).unlink()
    return there


@contextlib.contextmanager
def _exclusive(settings: Settings) -> Iterator[None]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pid_file(settings: Settings) -> Path:
    return settings.home / "standalone.pid"


def _read(settings: Settings) -> Running | None:
    try:
        found = json.loads(_pid_file(settings).read_text())
        leaders = tuple(ProcessIdentity(**leader) for leader in found["leaders"])
        return Running(found["port"], found["fingerprint"], leaders)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(settings: Settings, running: Running) -> None:
    replace_file(_pid_file(settings), json.dumps(asdict(running)))
