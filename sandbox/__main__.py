"""`python -m sandbox up | down | status`: a cluster for one machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from sandbox.components import RUNTIMES, Ports, Settings, components
from sandbox.supervision import SandboxError, describe, down, healthy, log_of, running, up

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"


def main() -> int:
    options = _parser().parse_args()
    try:
        return int({"up": _up, "down": _down, "status": _status}[options.command](options))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start what does not run, and wait until all is healthy")
    start.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=os.environ.get("SANDBOX_RUNTIME") or "process",
        help="what pods run as: processes, or containers of the Docker Engine at DOCKER_HOST ($SANDBOX_RUNTIME)",
    )
    start.add_argument("--bundles", type=Path, default=Path("var/bundles"), help="process: directory of images")
    start.add_argument(
        "--runtime-path",
        type=Path,
        default=Path(".venv-serving/bin"),
        help="process: bin directory of the model servers' environment",
    )
    start.add_argument("--api-port", type=int, default=18001, help="Kubernetes API; 0: a free one, as for all ports")
    start.add_argument("--gateway-port", type=int, default=18080, help="where requests enter")
    start.add_argument("--metrics-port", type=int, default=18081, help="the gateway's /metrics")
    start.add_argument("--node-port", type=int, default=18082, help="logs and /federate")
    start.add_argument("--ephemeral-ports", action="store_true", help="free ports for everything")
    start.add_argument(
        "--apply",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="create the objects of these manifests that do not exist",
    )
    stop = commands.add_parser("down", help="stop what `up` started")
    show = commands.add_parser("status", help="what runs, and where")
    for command in (start, stop, show):
        command.add_argument("--state", type=Path, default=Path("var/sandbox"), help="directory of all its files")
    return parser


def _up(options: argparse.Namespace) -> int:
    ports = Ports(options.api_port, options.gateway_port, options.metrics_port, options.node_port)
    settings = up(
        Settings(
            state=options.state.resolve(),
            bundles=options.bundles.resolve(),
            # Not resolved: a virtual environment is found by its bin directory's path, not by what its links lead to.
            runtime_path=options.runtime_path.absolute(),
            ports=Ports(0, 0, 0, 0) if options.ephemeral_ports else ports,
            runtime=options.runtime,
            docker_host="" if options.runtime == "process" else os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER_HOST,
        ),
        _say,
    )
    for directory in options.apply:
        _apply(settings.kubeconfig, directory)
    described = settings.described()
    _say(f"gateway {described['gateway_url']}, metrics {described['metrics_url']}, node {described['node_url']}")
    _say(f"kubectl --kubeconfig {described['kubeconfig']} get pods -A")
    return 0


def _apply(kubeconfig: Path, directory: Path) -> None:
    # Imported only when asked for: the API client takes longer to load than all else here together.
    from sandbox.apply import ManifestError, create_missing

    try:
        for line in asyncio.run(create_missing(kubeconfig, directory)):
            _say(line)
    except ManifestError as error:
        raise SandboxError(str(error)) from error


def _down(options: argparse.Namespace) -> int:
    down(options.state.resolve(), _say)
    return 0


def _status(options: argparse.Namespace) -> int:
    """0 when all is healthy, else 1."""
    state = options.state.resolve()
    described = describe(state)
    if described is None:
        _say(f"no sandbox was started in {state}")
        return 1
    settings = Settings.of(state, described)
    rows = [("COMPONENT", "PID", "STATE", "PORTS", "LOG")]
    states = set()
    for part in components(settings):
        process = running(state, part.name)
        condition = "not running" if process is None else "healthy" if healthy(part) else "not healthy"
        states.add(condition)
        pid = str(process.pid) if process else "-"
        numbers = ", ".join(map(str, part.ports.values())) or "-"
        rows.append((part.name, pid, condition, numbers, str(log_of(state, part.name))))
    for row in rows:
        _say(f"{row[0]:12} {row[1]:>8} {row[2]:12} {row[3]:14} {row[4]}")
    return 0 if states == {"healthy"} else 1


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
