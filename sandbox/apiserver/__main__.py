"""`python -m sandbox.apiserver`: serve the API on the loopback interface until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn
import yaml

from sandbox.apiserver import collector, http, schema
from sandbox.apiserver.registry import Registry
from sandbox.apiserver.storage import StorageError, Store

_HOST = "127.0.0.1"


def main() -> None:
    """Parse the command line, open the database, take the port, write the kubeconfig, serve."""
    arguments = _arguments()
    try:
        listener = _listener(arguments.port)
        store = Store(arguments.database)
        port = listener.getsockname()[1]
        write_kubeconfig(arguments.kubeconfig, port)
    except (OSError, StorageError) as error:
        sys.exit(f"sandbox API server: {error}")
    print(f"sandbox API server: http://{_HOST}:{port}, kubeconfig {arguments.kubeconfig}", flush=True)
    asyncio.run(_serve(store, listener))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file with the state of the cluster")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="file to write for kubectl and other clients")
    return parser.parse_args()


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each small answer waits 40 ms for an ACK
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as error:
        listener.close()
        remedy = "stop the program that has it, or choose another --port (0 takes a free one)"
        raise OSError(f"port {port} on {_HOST}: {error.strerror}; {remedy}") from error
    return listener


def write_kubeconfig(path: Path, port: int) -> None:
    """Write the kubeconfig in one step, so that nobody reads half of it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": {"server": f"http://{_HOST}:{port}"}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox", "namespace": "default"}}],
        "users": [{"name": "sandbox", "user": {}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(yaml.safe_dump(config, sort_keys=False))
    unfinished.replace(path)


class _Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT; ends the watches then, so that stopping does not wait for their clients."""

    def __init__(self, config: uvicorn.Config, store: Store) -> None:
        super().__init__(config)
        self._store = store

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's, which kills the process by the same signal once more after the server has stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self._store.stop_waiting()
        self.should_exit = True


async def _serve(store: Store, listener: socket.socket) -> None:
    registry = Registry(store, schema.load())
    collector.ensure_first_namespaces(registry)
    async with httpx.AsyncClient(timeout=httpx.Timeout(5.0, read=None)) as client:
        config = uvicorn.Config(
            http.application(registry, client),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(collector.run(registry))
            tasks.create_task(_Server(config, store).serve(sockets=[listener]))
    store.close()


if __name__ == "__main__":
    main()
