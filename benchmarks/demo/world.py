"""Everything that a demonstration needs on one machine: the sandbox, the guard, and Airflow, up and down.

`python -m benchmarks.demo.world up|down`. What it starts it knows by pid files, and it stops nothing else.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.airflow import lifecycle, processes
from sandbox.airflow.client import Client
from sandbox.airflow.errors import AirflowError
from sandbox.airflow.settings import USER, Settings, secrets_of
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
            "SLUICE_BUNDLES": str(self.bundles),
            "SLUICE_WORKLOAD": str(ROOT / "manifests" / "base" / "workload.yaml"),
        }

    def client(self) -> Client:
        return Client(self.airflow.url, secrets_of(self.airflow.home).password, start_command="make up")


def up(world: World) -> None:
    """Start what does not run, wait until it is healthy, print where it is. Raises WorldError, AirflowError."""
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


def reset(world: World) -> None:
    """Stop everything and forget all state but the images, which are content and cost time to build."""
    down(world)
    for name in ("sandbox", "airflow", "guard", "ledger", "demo"):
        shutil.rmtree(world.state / name, ignore_errors=True)


def _sandbox(world: World, command: str, *options: str) -> None:
    arguments = [sys.executable, "-m", "sandbox", command, "--state", str(world.sandbox)]
    if command == "up":
        arguments += ["--bundles", str(world.bundles), "--runtime-path", str(ROOT / ".venv-serving" / "bin")]
    if subprocess.run([*arguments, *options], cwd=ROOT, check=False).returncode:
        raise WorldError(f"`python -m sandbox {command}` failed; it says above what to do")


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
