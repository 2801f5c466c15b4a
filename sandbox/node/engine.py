"""A Docker Engine as the node uses it; everything here blocks.

A node's containers have its label, so that those of a node that was killed are found again, and a name of their own.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import requests
from docker.utils import kwargs_from_env
from docker.utils.socket import frames_iter

from sandbox.node.errors import EngineError, ImageError, StartError
from sandbox.node.runtime import Exit

NODE_LABEL = "sandbox.sluice.dev/node"
"""Its value is the state directory of the node whose container it is."""
CONNECTIONS = 256
GONE = frozenset({404, 409})
"""What removing a container answers when there is none, or when it is being removed."""

Client = Any
"""`docker.APIClient`, which has no types."""
Json = dict[str, Any]

ERRORS = (docker.errors.DockerException, requests.RequestException, OSError)

log = logging.getLogger(__name__)


def connect(host: str) -> Client:
    """A client for many threads. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count. Raises EngineError."""
    try:
        arguments = kwargs_from_env(environment=os.environ | {"DOCKER_HOST": host})
        return docker.APIClient(**arguments, max_pool_size=CONNECTIONS)
    except ERRORS as error:
        raise EngineError(f"no Docker Engine answers at {host}: {explanation(error)}") from error


def version_of(client: Client) -> str:
    """Such as `20.10.24`. Raises EngineError."""
    try:
        return str(client.version()["Version"])
    except ERRORS as error:
        raise EngineError(explanation(error)) from error


def explanation(error: Exception) -> str:
    """The daemon's own words, if it said any."""
    return str(getattr(error, "explanation", None) or error)


def pull(client: Client, repository: str, digest: str) -> None:
    """Unless the image is there: a digest never means another one. Raises ImageError with the daemon's message."""
    reference = f"{repository}@{digest}"
    try:
        if not _is_there(client, reference):
            for line in client.pull(repository, tag=digest, stream=True, decode=True):
                if "error" in line:
                    raise ImageError(f'Failed to pull image "{reference}": {line["error"]}')
    except ERRORS as error:
        raise ImageError(f'Failed to pull image "{reference}": {explanation(error)}') from error


def _is_there(client: Client, reference: str) -> bool:
    try:
        client.inspect_image(reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def user_of_image(client: Client, image: str) -> str:
    """As its build said, "" for root. Raises ImageError."""
    try:
        return str((client.inspect_image(image)["Config"] or {}).get("User") or "")
    except ERRORS as error:
        raise ImageError(f'image "{image}": {explanation(error)}') from error


class Output:
    """What a container writes, both streams in one, from now until it has ended. To be closed."""

    def __init__(self, client: Client, name: str) -> None:
        self._socket = client.attach_socket(name, {"stdout": 1, "stderr": 1, "stream": 1})

    def __iter__(self) -> Iterator[bytes]:
        frames: Iterator[tuple[int, bytes]] = frames_iter(self._socket, tty=False)  # type: ignore[no-untyped-call]
        return (chunk for _, chunk in frames)

    def close(self) -> None:
        # The client keeps it there; only closing all of the answer gives the connection back.
        self._socket._response.close()


def start(client: Client, name: str, config: Json, state: Path) -> Output:
    """Create and start a container of the node `state`, in the place of an earlier one of this name.

    Raises:
        StartError: it cannot be created or started; then it is removed.
    """
    with contextlib.ExitStack() as unless_started:
        try:
            remove(client, name)
            client.create_container_from_config(config | {"Labels": {NODE_LABEL: str(state)}}, name)
            unless_started.callback(_remove_if_it_answers, client, name)
            # Before it starts, so that nothing is missed.
            output = Output(client, name)
            unless_started.callback(output.close)
            client.start(name)
        except ERRORS as error:
            raise StartError(explanation(error)) from error
        unless_started.pop_all()
    return output


def follow(client: Client, name: str, output: Output, feed: Callable[[bytes], object]) -> Exit:
    """Hand on a container's output until it has ended, and remove it."""
    try:
        with contextlib.closing(output):
            for chunk in output:
                feed(chunk)
        code = int(client.wait(name)["StatusCode"])
        out_of_memory = client.inspect_container(name)["State"]["OOMKilled"]
        remove(client, name)
    except ERRORS as error:
        log.warning("container %s was lost: %s", name, explanation(error))
        return Exit(137, "ContainerStatusUnknown")
    return Exit(code, "OOMKilled") if out_of_memory else Exit.of(code)


def stop(client: Client, name: str, grace_seconds: float) -> None:
    """The image's stop signal or SIGTERM, and SIGKILL after the grace period, which the engine knows in seconds."""
    try:
        client.stop(name, timeout=math.ceil(grace_seconds))
    except docker.errors.NotFound:
        return
    except ERRORS as error:
        log.warning("container %s cannot be stopped: %s", name, explanation(error))


def remove(client: Client, name: str) -> None:
    """A container and what runs in it, at once; nothing if there is none."""
    try:
        client.remove_container(name, v=True, force=True)
    except docker.errors.APIError as error:
        if error.status_code not in GONE:
            raise


def _remove_if_it_answers(client: Client, name: str) -> None:
    with contextlib.suppress(*ERRORS):
        remove(client, name)


def remove_containers_of(client: Client, state: Path) -> int:
    """End and remove all containers of a node, at once. Returns how many there were. Raises EngineError."""
    try:
        found = client.containers(all=True, filters={"label": f"{NODE_LABEL}={state}"})
        for container in found:
            remove(client, container["Id"])
    except ERRORS as error:
        raise EngineError(explanation(error)) from error
    return len(found)
