"""Everything that a demonstration needs on one machine: the sandbox, the guard, and Airflow, up and down.

`python -m benchmarks.demo.world up|down`. What it starts it knows by pid files, and it stops nothing else. With
SANDBOX_RUNTIME=docker pods are containers of images that Sluice really builds: an engine and a registry are up, too.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox.airflow import lifecycle, processes
from sandbox.airflow.client import Client
from sandbox.airflow.errors import AirflowError
from sandbox.airflow.settings import USER, Settings, secrets_of
from sandbox.engine.description import Engine
from sandbox.engine.errors import EngineError
from sandbox.processes import ProcessIdentity

ROOT = Path(__file__).resolve().parents[2]
GUARD_GRACE_SECONDS = 5.0


class WorldError(Exception):
    """A part could not be started; the message names it and the remedy."""


@dataclass(frozen=True)
class World:
    """Where the parts keep their state, and the ports that they take."""

    state: Path = ROOT / "var"
    airflow_port: int = 18090
    sandbox_options: tuple[str, ...] = ()
    """More options for `python -m sandbox up`, such as other ports."""
    releases: Path = ROOT / "releases"
    """Folder of the policies."""
    runtime: str = field(default_factory=lambda: os.environ.get("SANDBOX_RUNTIME") or "process")
    """What pods run as: `process` or `docker`."""
    engine: Path | None = None
    """State directory of an engine that somebody else has started; None: the world's own, where it needs one."""

    @property
    def own_engine(self) -> Path:
        return self.state / "engine"

    @property
    def own_releases(self) -> Path:
        """Copies of the policies whose images are in the own engine's registry."""
        return self.state / "docker" / "releases"

    @property
    def sandbox(self) -> Path:
        return self.state / "sandbox"

    @property
    def bundles(self) -> Path:
        return self.state / "bundles"

    @property
    def airflow(self) -> Settings:
        return Settings(self.state / "airflow", self.airflow_port, ROOT / "dags", ROOT / "plugins")

    @property
    def guard_pid(self) -> Path:
        return self.state / "guard" / "guard.pid"

    def addresses(self) -> Mapping[str, Any]:
        """What the sandbox says of itself. Raises WorldError if it is not up."""
        try:
            found: Mapping[str, Any] = json.loads((self.sandbox / "sandbox.json").read_text())
        except (OSError, ValueError) as error:
            raise WorldError("the sandbox is not up; start it with `make up`") from error
        return found

    def variables(self) -> dict[str, str]:
        """SLUICE_* for whoever works in this world."""
        found = self.addresses()
        return {
            "SLUICE_RELEASES": str(self.releases),
            "SLUICE_KUBECONFIG": found["kubeconfig"],
            "SLUICE_GATEWAY_URL": found["gateway_url"],
            "SLUICE_METRICS_URLS": ",".join([found["metrics_url"], found["federate_url"]]),
            "SLUICE_LEDGER": str(self.state / "ledger"),
            "SLUICE_WORKLOAD": str(ROOT / "manifests" / "base" / "workload.yaml"),
            **(self._docker_variables() if found.get("runtime") == "docker" else self._bundle_variables()),
        }

    def _bundle_variables(self) -> dict[str, str]:
        return {"SLUICE_IMAGES": "bundles", "SLUICE_BUNDLES": str(self.bundles)}

    def _docker_variables(self) -> dict[str, str]:
        engine = self.engine_description()
        own = {"SLUICE_RELEASES": str(self.own_releases)} if self.engine is None else {}
        return own | {
            "SLUICE_IMAGES": "docker",
            "SLUICE_DOCKER_HOST": engine.docker_host,
            "SLUICE_BUILD_ARGS": ",".join(f"{name}={value}" for name, value in engine.build_args.items()),
            "SLUICE_BUILD_NETWORK": "host",
        }

    def engine_description(self) -> Engine:
        """The engine that builds images and runs them. Raises WorldError if none was started."""
        try:
            return Engine.read((self.engine or self.own_engine) / "engine.json")
        except EngineError as error:
            raise WorldError(str(error)) from error

    def client(self) -> Client:
        return Client(self.airflow.url, secrets_of(self.airflow.home).password, start_command="make up")


def up(world: World) -> None:
    """Start what does not run, wait until it is healthy, print where it is. Raises WorldError, AirflowError."""
    if world.runtime == "docker":
        _engine_up(world)
    _sandbox(world, "up", "--apply", str(ROOT / "manifests" / "overlays" / "sandbox"), *world.sandbox_options)
    variables = os.environ | world.variables()
    _start_guard(world, variables)
    lifecycle.up(world.airflow, _say, variables)
    _say(f"Airflow   {world.airflow.url}   user {USER}, password {secrets_of(world.airflow.home).password}")
    _say(f"Gateway   {world.addresses()['gateway_url']}   metrics {world.addresses()['metrics_url']}")
    _say(f"Cluster   kubectl --kubeconfig {world.addresses()['kubeconfig']} get vs,deploy,pods,leases -A")
    _say('Shell     eval "$(make -s env)" puts the command `sluice` on the PATH, with the settings of this sandbox')


def env(world: World) -> None:
    """Print what a shell needs to call `sluice` in this world, to be evaluated. Raises WorldError if it is not up."""
    for name, value in world.variables().items():
        _say(f"export {name}={shlex.quote(value)}")
    _say(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")


def down(world: World) -> None:
    """Stop what `up` has started."""
    lifecycle.down(world.airflow, _say)
    guard = ProcessIdentity.read(world.guard_pid)
    if guard is not None:
        guard.end(GUARD_GRACE_SECONDS)
        world.guard_pid.unlink()
    _sandbox(world, "down")
    if world.own_engine.is_dir():
        _run("sandbox.engine", "down", "--state", str(world.own_engine))


def reset(world: World) -> None:
    """Stop everything and forget all state but the images, which are content and cost time to build."""
    down(world)
    for name in ("sandbox", "airflow", "guard", "ledger", "demo"):
        shutil.rmtree(world.state / name, ignore_errors=True)


def _engine_up(world: World) -> None:
    if world.engine is None:
        _run("sandbox.engine", "up", "--state", str(world.own_engine))
        write_policies(world, world.engine_description())


def write_policies(world: World, engine: Engine) -> None:
    """The policies, with their images in the engine's registry. Paths in them start at their folder's parent."""
    world.own_releases.mkdir(parents=True, exist_ok=True)
    for name in ("prompts", "model_image"):
        link = world.own_releases.parent / name
        link.unlink(missing_ok=True)
        link.symlink_to(world.releases.parent / name)
    for path in world.releases.glob("*.yaml"):
        policy = yaml.safe_load(path.read_text())
        image = policy["image"]
        image |= {"repository": f"{engine.registry}/{image['repository']}", "base": engine.base_image}
        (world.own_releases / path.name).write_text(yaml.safe_dump(policy, sort_keys=False))


def _sandbox(world: World, command: str, *options: str) -> None:
    arguments = [command, "--state", str(world.sandbox), *options]
    variables = {}
    if command == "up":
        arguments += ["--bundles", str(world.bundles), "--runtime-path", str(ROOT / ".venv-serving" / "bin")]
        arguments += ["--runtime", world.runtime]
        variables = {"DOCKER_HOST": world.engine_description().docker_host} if world.runtime == "docker" else {}
    _run("sandbox", *arguments, variables=variables)


def _run(module: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", module, *arguments]
    if subprocess.run(command, cwd=ROOT, env=os.environ | (variables or {}), check=False).returncode:
        raise WorldError(f"`python -m {module} {arguments[0]}` failed; it says above what to do")


def _start_guard(world: World, variables: Mapping[str, str]) -> None:
    running = ProcessIdentity.read(world.guard_pid)
    if running is not None and running.alive():
        return
    world.guard_pid.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).parent / "sluice"), "guard"]
    processes.spawn(command, variables, world.guard_pid.with_name("guard.log")).write(world.guard_pid)
    _say(f"the guard watches the releases' leases, log {world.guard_pid.with_name('guard.log')}")


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    world = World()
    try:
        {"up": up, "down": down, "env": env}[sys.argv[1]](world)
    except (WorldError, AirflowError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
