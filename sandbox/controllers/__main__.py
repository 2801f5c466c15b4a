"""`python -m sandbox.controllers`: run the controllers against the cluster of a kubeconfig until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from sandbox.controllers.loop import Controllers
from sandbox.kubernetes_api import KubernetesApi


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.controllers", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="the cluster to work in")
    kubeconfig = parser.parse_args().kubeconfig
    if not kubeconfig.is_file():
        sys.exit(f"sandbox controllers: kubeconfig {kubeconfig} does not exist: start the API server first")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s controllers %(levelname)s %(message)s")
    asyncio.run(_run(kubeconfig))


async def _run(kubeconfig: Path) -> None:
    async with KubernetesApi.connect(kubeconfig) as api:
        working = asyncio.create_task(Controllers(api).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, working.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await working


if __name__ == "__main__":
    main()
