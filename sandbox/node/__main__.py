"""`python -m sandbox.node`: the node's process."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sandbox.kubernetes_api import KubernetesApi
from sandbox.node.addresses import Addresses
from sandbox.node.container import BackOff
from sandbox.node.errors import EngineError
from sandbox.node.events import EventRecorder
from sandbox.node.node import Node
from sandbox.node.pod import Surroundings
from sandbox.node.probes import http_check
from sandbox.node.processes import ProcessRuntime
from sandbox.node.runtime import Runtime
from sandbox.node.server import NodeServer
from sandbox.processes import run_until_signalled


@dataclass(frozen=True)
class NodeOptions:
    kubeconfig: Path
    state: Path
    runtime: str
    docker_host: str
    bundles: Path
    runtime_path: Path
    name: str
    port: int
    back_off: BackOff


async def _run(options: NodeOptions) -> None:
    options.state.mkdir(parents=True, exist_ok=True)
    async with KubernetesApi.connect(options.kubeconfig) as api, aiohttp.ClientSession() as session:
        events = EventRecorder(api, options.name)
        around = Surroundings(
            api=api,
            runtime=_runtime(options),
            check=http_check(session),
            back_off=options.back_off,
            directory=options.state / "pods",
            report=events.report,
        )
        addresses = Addresses(options.state / "next_address", random.Random())
        node = Node(options.name, options.port, around, addresses)
        server = NodeServer(node, session)
        await server.listen(options.port)
        try:
            await node.run()
        finally:
            await server.close()
            await events.close()


def _runtime(options: NodeOptions) -> Runtime:
    if options.runtime == "process":
        return ProcessRuntime(options.bundles, options.runtime_path, options.state / "pids")
    # Imported only when asked for: the engine's client takes a while to load, and processes do without.
    from sandbox.node import containers, engine

    return containers.ContainerRuntime(engine.connect(options.docker_host), options.state)


def main() -> int:
    parser = argparse.ArgumentParser(prog="sandbox.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="directory of logs, volumes and pid files")
    parser.add_argument("--runtime", choices=("process", "docker"), default="process", help="what pods run as")
    parser.add_argument("--docker-host", default="", help="docker: address of the engine")
    parser.add_argument("--bundles", type=Path, required=True, help="process: images, <hex digest>/bundle.json")
    parser.add_argument("--runtime-path", type=Path, required=True, help="process: first directory of their PATH")
    parser.add_argument("--port", type=int, required=True, help="logs, /federate and /healthz")
    parser.add_argument("--name", default="sandbox")
    parser.add_argument("--back-off-seconds", type=float, default=0.25, help="first delay of a crash loop")
    parser.add_argument("--back-off-cap-seconds", type=float, default=10.0, help="longest delay of a crash loop")
    given = parser.parse_args()
    options = NodeOptions(
        kubeconfig=given.kubeconfig,
        state=given.state.resolve(),
        runtime=given.runtime,
        docker_host=given.docker_host,
        bundles=given.bundles.resolve(),
        # Not resolved: a virtual environment is found by the path of its bin directory, not by what its links lead to.
        runtime_path=given.runtime_path.absolute(),
        name=given.name,
        port=given.port,
        back_off=BackOff(given.back_off_seconds, given.back_off_cap_seconds),
    )
    try:
        asyncio.run(run_until_signalled(_run(options)))
    except (OSError, EngineError) as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
