"""Starting and stopping: an engine (unless DOCKER_HOST names one), a registry, a package server, a base image."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

from sandbox.engine.base_image import ensure_base_image
from sandbox.engine.description import FILE, Engine
from sandbox.engine.errors import EngineMissing, StartFailed
from sandbox.engine.pip_sources import build_args, folders, read_pip_options
from sandbox.engine.services import Service, Services, http_answers

HOST = "127.0.0.1"
PROJECT = Path(__file__).resolve().parents[2]
NAMES = ("dockerd", "registry", "packages")
"""In the order of starting; stopping goes the other way round."""
STOP_SECONDS = 60.0
"""dockerd ends its containers first."""
API_SECONDS = 600
INSTALL = "`apt-get install docker.io docker-registry debootstrap`"

Say = Callable[[str], None]

REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http:
  addr: {address}
"""


@dataclass(frozen=True)
class Started:
    """What `up` found or made."""

    engine: Engine
    new: bool
    """Whether anything had to be started: who started it ends it."""


def up(state: Path, say: Say, *, base_image: str = "", environment: Mapping[str, str] = os.environ) -> Started:
    """Start what does not run, wait until all answers, and describe it in `engine.json`.

    Args:
        state: absolute path of the directory of all its files; gigabytes.
        base_image: one to use as it is; "" makes one.
        environment: DOCKER_HOST in it names an engine to use instead of an own one.

    Raises:
        EngineMissing: programs or rights are missing.
        StartFailed: a part did not come up; what was started is stopped again.
    """
    state.mkdir(parents=True, exist_ok=True)
    with _only_one(state):
        services = Services(state)
        before = [name for name in NAMES if services.running(name)]
        try:
            engine = _start(state, services, say, base_image, environment)
        except BaseException:
            _stop(services, [name for name in NAMES if name not in before], say)
            raise
        engine.write(state / FILE)
        return Started(engine, new=not before)


def down(state: Path, say: Say) -> None:
    """Stop what `up` started there, containers included; files stay."""
    if not state.is_dir():
        say(f"nothing runs: there is no {state}")
        return
    with _only_one(state):
        _stop(Services(state), NAMES, say)
        _remove(_short(state))


@contextlib.contextmanager
def borrowed(state: Path, say: Say) -> Iterator[Engine]:
    """The engine of `state` for a while: started if it does not run, and then stopped by whoever gives it back last.

    An engine that a person started with `up` stays. Raises as `up` does.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "borrowers").open("w") as borrowers:
        fcntl.flock(borrowers, fcntl.LOCK_SH)
        mark = state / "stop-when-given-back"
        started = up(state, say)
        if started.new:
            mark.touch()
        try:
            yield started.engine
        finally:
            # Nobody else holds the lock: the last borrower.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(borrowers, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if mark.exists():
                    mark.unlink()
                    down(state, say)


def _start(state: Path, services: Services, say: Say, base_image: str, environment: Mapping[str, str]) -> Engine:
    docker_host = environment.get("DOCKER_HOST") or _own_engine(state, services, say)
    registry = _registry(state, services, say)
    options = read_pip_options()
    packages = folders(options)
    address = _package_server(state, services, packages, say) if packages else ""
    arguments = build_args(options, lambda folder: f"http://{address}/{packages.index(folder)}", environment)
    with _client(docker_host) as client:
        base = base_image or ensure_base_image(client, registry, state, say)
    return Engine(docker_host, registry, str(state / "registry"), base, arguments)


def _own_engine(state: Path, services: Services, say: Say) -> str:
    if os.geteuid() != 0:
        raise EngineMissing("an own Docker Engine needs root: run it as root, or name an engine with DOCKER_HOST")
    short = _short(state)
    listens_at = short / "docker.sock"
    socket_url = f"unix://{listens_at}"
    command = [
        _program("dockerd"),
        *("--host", socket_url, "--data-root", str(state / "docker"), "--exec-root", f"{short}/exec"),
        *("--pidfile", f"{short}/dockerd.pid", "--bridge", "none", "--iptables=false", "--ip6tables=false"),
    ]
    short.mkdir(mode=0o700, parents=True, exist_ok=True)
    if services.ensure(Service("dockerd", command, lambda: _engine_answers(listens_at))):
        say(f"dockerd answers at {socket_url}")
    return socket_url


def _registry(state: Path, services: Services, say: Say) -> str:
    address = _address(state, "registry", services)
    storage, config = state / "registry", state / "registry.yml"
    storage.mkdir(exist_ok=True)
    config.write_text(REGISTRY_CONFIG.format(storage=storage, address=address))
    command = [_program("docker-registry"), "serve", str(config)]
    if services.ensure(Service("registry", command, lambda: http_answers(f"http://{address}/v2/"))):
        say(f"registry answers at {address}")
    return address


def _package_server(state: Path, services: Services, served: tuple[Path, ...], say: Say) -> str:
    address = _address(state, "packages", services)
    command = [
        *(sys.executable, str(PROJECT / "sandbox" / "engine" / "package_server.py")),
        *("--host", HOST, "--port", address.partition(":")[2], *map(str, served)),
    ]
    if services.ensure(Service("packages", command, lambda: http_answers(f"http://{address}/0/"))):
        say(f"{', '.join(map(str, served))} served at {address}")
    return address


def _stop(services: Services, names: list[str] | tuple[str, ...], say: Say) -> None:
    for name in reversed(names):
        if services.stop(name, STOP_SECONDS):
            say(f"{name} stopped")


def _short(state: Path) -> Path:
    """A path's socket may have 107 characters, so sockets do not lie under the state directory."""
    return Path("/run") / f"sluice-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def _remove(short: Path) -> None:
    """dockerd leaves the network namespace of its containers mounted there."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in mounts:
        if Path(mount).is_relative_to(short):
            subprocess.run(["umount", mount], check=False)
    shutil.rmtree(short, ignore_errors=True)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EngineMissing(f"{name} is not installed: {INSTALL}, or name an engine with DOCKER_HOST")
    return found


def _address(state: Path, name: str, services: Services) -> str:
    """`host:port`; the same as last time if it is free: another one would make the builds' cache worthless."""
    file = state / "ports" / name
    port = int(file.read_text()) if file.is_file() else 0
    if not services.running(name):
        port = _bindable(port) or _bindable(0)
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(port))
    return f"{HOST}:{port}"


def _bindable(port: int) -> int:
    """The port (a free one for 0), or 0 if it is taken."""
    try:
        with socket.create_server((HOST, port)) as listener:
            return int(listener.getsockname()[1])
    except OSError:
        return 0


def _engine_answers(listens_at: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt:
        if attempt.connect_ex(str(listens_at)) != 0:
            return False
    try:
        with _client(f"unix://{listens_at}") as client:
            return bool(client.ping())
    except (StartFailed, DockerException, OSError):
        return False


@contextlib.contextmanager
def _client(docker_host: str) -> Iterator[docker.DockerClient]:
    try:
        client = docker.DockerClient(base_url=docker_host, timeout=API_SECONDS)
    except DockerException as error:
        raise StartFailed(f"the Docker Engine at {docker_host} does not answer: {error}") from error
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """One `up` or `down` of this engine at a time; the next one waits."""
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
