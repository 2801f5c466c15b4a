"""`python -m sandbox.gateway`: the gateway's process."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from sandbox.gateway.envoy import EnvoyError
from sandbox.gateway.gateway import Gateway, GatewayOptions
from sandbox.kubernetes_api import KubernetesApi
from sandbox.processes import run_until_signalled


async def _run(options: GatewayOptions) -> None:
    options.state.mkdir(parents=True, exist_ok=True)
    async with KubernetesApi.connect(options.kubeconfig) as api:
        await Gateway(options, api).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="sandbox.gateway", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="directory of the access log and of Envoy's files")
    parser.add_argument("--port", type=int, required=True, help="where Envoy takes requests")
    parser.add_argument("--metrics-port", type=int, required=True, help="/metrics and /healthz")
    parser.add_argument("--admin-port", type=int, default=0, help="Envoy's admin interface (default: a free port)")
    given = parser.parse_args()
    options = GatewayOptions(given.kubeconfig, given.state.resolve(), given.port, given.metrics_port, given.admin_port)
    failures: list[Exception] = []
    try:
        asyncio.run(run_until_signalled(_run(options)))
    except* (EnvoyError, OSError) as errors:
        failures.extend(errors.exceptions)
    for failure in failures:
        print(f"gateway: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
