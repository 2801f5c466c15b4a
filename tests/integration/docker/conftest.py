"""A stand-in for the serving image that builds in a second, on the real engine and the real registry."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from stand_in import build_context, revision

from sandbox.engine.description import Engine
from sandbox.engine.services import Service, Services
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.ports import ImageSpec
from tests.docker_engine import docker_engine, engine_settings, serving_image

__all__ = ["docker_engine", "engine_settings", "serving_image"]

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def client(docker_engine: Engine) -> Iterator[docker.DockerClient]:
    """To look at the engine from outside."""
    with closing(docker.DockerClient(base_url=docker_engine.docker_host)) as client:
        yield client


@pytest.fixture
def images(engine_settings: EngineSettings) -> DockerImages:
    return DockerImages(engine_settings)


@pytest.fixture
def spec(docker_engine: Engine, client: docker.DockerClient, tmp_path: Path) -> Iterator[ImageSpec]:
    """A version of which the registry has never heard."""
    repository = f"{docker_engine.registry}/tests/stand-in-{os.getpid()}-{next(NUMBERS)}"
    yield ImageSpec(
        repository=repository,
        version="a1b2c3",
        context=build_context(tmp_path / "context"),
        revision=revision(tmp_path / "r1", "r1"),
        model="arithmetic",
        base=docker_engine.base_image,
    )
    for image in client.images.list(name=repository):
        client.images.remove(image.id or "", force=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts one more registry with a configuration of its own (`%s`: where it stores); returns its address."""
    services = Services(tmp_path / "registry")

    def start(configuration: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        file = tmp_path / "registry.yml"
        file.write_text(f"version: 0.1\n{configuration % (tmp_path / 'stored')}\nhttp: {{addr: {address}}}\n")
        services.ensure(Service("registry", ("docker-registry", "serve", str(file)), lambda: _listens(address)))
        return address

    yield start
    services.stop("registry", grace_seconds=10)


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as attempt:
        return attempt.connect_ex((host, int(port))) == 0
