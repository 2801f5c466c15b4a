"""Starting, watching and stopping the sandbox's processes. They live on without whoever started them.

Each component has a pid file with its start time: what is running is left alone, what died is started again, and
nothing that was not started here is ever signalled. A start that fails stops what it started.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sandbox.components import HOST, NAMES, RUNTIMES, Component, Ports, Settings, components
from sandbox.node.errors import EngineError
from sandbox.processes import ProcessIdentity, replace_file

PROJECT = Path(__file__).resolve().parents[1]
HEALTHY_WITHIN_SECONDS = 30.0
STOP_WITHIN_SECONDS = 15.0
POLL_SECONDS = 0.05

Say = Callable[[str], None]


class SandboxError(Exception):
    """The sandbox cannot be started as asked; the message names what is in the way and the remedy."""


def up(settings: Settings, say: Say) -> Settings:
    """Start what does not run, wait until all is healthy, and describe it in `sandbox.json`.

    Returns:
        The settings with the ports that were chosen.

    Raises:
        SandboxError: a port is taken, the sandbox runs with other settings, there is nothing to run pods with, or a
            component does not become healthy.
    """
    _refuse_missing_runtime(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    with _only_one(settings.state):
        known = describe(settings.state)
        settings = _with_ports(settings, known["ports"] if known else {})
        parts = components(settings)
        missing = [part for part in parts if running(settings.state, part.name) is None]
        if len(missing) < len(parts) and known and known != settings.described():
            raise SandboxError(_differs(known, settings.described()))
        _refuse_taken_ports(missing)
        replace_file(settings.state / "sandbox.json", json.dumps(settings.described(), indent=2) + "\n")
        _start(settings, parts, missing, restarted=known is not None and len(missing) < len(parts), say=say)
    return settings


def down(state: Path, say: Say) -> None:
    """Stop what `up` started, the last first. Pods end within their grace period, up to the node's bound."""
    if not state.is_dir():
        say(f"nothing runs: there is no {state}")
        return
    with _only_one(state):
        for name in reversed(NAMES):
            _stop(state, name, say)
        if known := describe(state):
            _remove_containers(Settings.of(state, known), say)


def describe(state: Path) -> dict[str, Any] | None:
    """The last `sandbox.json`."""
    try:
        described: dict[str, Any] = json.loads((state / "sandbox.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return described


def running(state: Path, name: str) -> ProcessIdentity | None:
    identity = ProcessIdentity.read(_pid_file(state, name))
    return identity if identity and identity.alive() else None


def healthy(component: Component) -> bool:
    """Whether it says so itself; one without an address is healthy when it runs."""
    if component.health_url is None:
        return True
    try:
        with urllib.request.urlopen(component.health_url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def log_of(state: Path, name: str) -> Path:
    return state / "logs" / f"{name}.log"


def _start(
    settings: Settings, parts: Iterable[Component], missing: list[Component], *, restarted: bool, say: Say
) -> None:
    began = time.monotonic()
    deadline = began + HEALTHY_WITHIN_SECONDS
    started: list[Component] = []
    try:
        if any(part.name == "apiserver" for part in missing):
            # The clients wait for the new one; an old one could name another port.
            settings.kubeconfig.unlink(missing_ok=True)
        for part in missing:
            if restarted:
                say(f"{part.name} is not running any more: starting it again")
            _launch(settings.state, part)
            started.append(part)
        for part in parts:
            _await_health(settings.state, part, deadline)
            note = "was running" if part not in missing else f"healthy after {time.monotonic() - began:.1f} s"
            say(f"{part.name:12} {note}")
    except BaseException:
        for part in reversed(started):
            _stop(settings.state, part.name, say)
        raise


def _launch(state: Path, component: Component) -> None:
    log = log_of(state, component.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"sandbox.{component.name}", *component.arguments],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if identity := ProcessIdentity.of(process.pid):
        identity.write(_pid_file(state, component.name))


def _await_health(state: Path, component: Component, deadline: float) -> None:
    while not healthy(component) or running(state, component.name) is None:
        if running(state, component.name) is None:
            raise SandboxError(f"{component.name} ended while starting. {_last_words(state, component.name)}")
        if time.monotonic() > deadline:
            late = f"{component.name} is not healthy after {HEALTHY_WITHIN_SECONDS:g} s"
            raise SandboxError(f"{late}. {_last_words(state, component.name)}")
        time.sleep(POLL_SECONDS)


def _last_words(state: Path, name: str) -> str:
    log = log_of(state, name)
    lines = log.read_text(errors="replace").strip().splitlines()[-8:] if log.exists() else []
    return f"The end of {log}:\n" + "\n".join(f"  {line}" for line in lines)


def _stop(state: Path, name: str, say: Say) -> None:
    pid_file = _pid_file(state, name)
    identity = running(state, name)
    if identity:
        went = identity.end(STOP_WITHIN_SECONDS)
        say(f"{name:12} stopped" if went else f"{name:12} killed: it did not end within {STOP_WITHIN_SECONDS:g} s")
    pid_file.unlink(missing_ok=True)


def _refuse_missing_runtime(settings: Settings) -> None:
    if settings.runtime == "process":
        if not settings.runtime_path.is_dir():
            missing = f"{settings.runtime_path} does not exist"
            raise SandboxError(f"{missing}: name the model servers' bin/ with --runtime-path")
        return
    if settings.runtime not in RUNTIMES:
        raise SandboxError(f"pods cannot run as {settings.runtime!r}: SANDBOX_RUNTIME is {' or '.join(RUNTIMES)}")
    # Imported only when asked for, as below: the engine's client takes a while to load.
    from sandbox.node import engine

    try:
        engine.connect(settings.docker_host).close()
    except EngineError as error:
        raise SandboxError(
            f"{error}. Start one, name another with DOCKER_HOST, or run pods as processes (--runtime process)"
        ) from error


def _remove_containers(settings: Settings, say: Say) -> None:
    """Those that a killed node has left; one that stops ends its own."""
    if settings.runtime == "process":
        return
    from sandbox.node import engine

    try:
        with contextlib.closing(engine.connect(settings.docker_host)) as client:
            left = engine.remove_containers_of(client, settings.node)
    except EngineError as error:
        say(f"containers   not looked for: {error}. If some are left, they have the label {engine.NODE_LABEL}")
        return
    if left:
        say(f"containers   {left} that the node had left, removed")


def _pid_file(state: Path, name: str) -> Path:
    return state / "pids" / f"{name}.json"


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """One `up` or `down` of this sandbox at a time."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(f"another `up` or `down` of {state} is at work; wait for its end") from None
        yield


def _with_ports(settings: Settings, before: dict[str, int]) -> Settings:
    """Ports asked for as 0 are the ones chosen before (unless taken since, while nothing runs), or free ones."""
    any_runs = any(running(settings.state, name) for name in NAMES)
    kept = {name: port for name, port in before.items() if any_runs or _is_free(port)}
    chosen = {name: port or kept.get(name, 0) for name, port in asdict(settings.ports).items()}
    with contextlib.ExitStack() as held:
        for name, port in chosen.items():
            if port == 0:
                probe = held.enter_context(socket.create_server((HOST, 0)))
                chosen[name] = probe.getsockname()[1]
    return replace(settings, ports=Ports(**chosen))


def _refuse_taken_ports(parts: Iterable[Component]) -> None:
    for part in parts:
        for option, port in part.ports.items():
            if not _is_free(port):
                raise SandboxError(
                    f"port {port}, which the {part.name} needs, is taken by another program: "
                    f"stop that program, or choose another port with {option} PORT (0: a free one)"
                )


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _differs(known: dict[str, Any], asked: dict[str, Any]) -> str:
    names = [
        name
        for name in ("ports", "bundles", "runtime_path", "runtime", "docker_host")
        if known.get(name) != asked[name]
    ]
    pairs = "; ".join(f"{name} {known.get(name)}, asked for {asked[name]}" for name in names)
    return f"the sandbox in {asked['state']} runs with other settings ({pairs}): stop it first with `down`"
