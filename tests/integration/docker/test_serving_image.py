"""The real serving image: what is in it, that it runs locked down, drains, and is refreshed by its weights alone."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from docker.models.images import Image

from benchmarks.server.images import layers_of, measure
from sandbox.engine.description import Engine
from tests.docker_engine import SERVING_IMAGE_SECONDS, STATE, ServingImage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SERVING_IMAGE_SECONDS)]

READY_SECONDS = 120
STOP_SECONDS = 30
SBOM = "/usr/share/sbom/serving.cdx.json"


@dataclass(frozen=True)
class Server:
    container: Container
    url: str

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def complete(self, prompt: str) -> Any:
        body = json.dumps({"prompt": prompt, "max_tokens": 8, "temperature": 0}).encode()
        request = urllib.request.Request(f"{self.url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def run(self, *command: str) -> tuple[int, str]:
        result = self.container.exec_run(list(command))
        return result.exit_code, result.output.decode()


@pytest.fixture(scope="module")
def image(client: docker.DockerClient, serving_image: ServingImage) -> Image:
    return client.images.pull(serving_image.reference)


@pytest.fixture
def server(client: docker.DockerClient, image: Image) -> Iterator[Server]:
    """As a pod runs it: not root, no capabilities, nothing writable but /tmp."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    container = client.containers.run(
        image.id or "",
        detach=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": ""},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        environment={"HOST": "127.0.0.1", "PORT": str(port), "SERVING_DRAIN_DELAY_SECONDS": "0"},
    )
    try:
        server = Server(container, f"http://127.0.0.1:{port}")
        wait_until_ready(server)
        yield server
    finally:
        container.remove(force=True)


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not server.ready():
        server.container.reload()
        assert server.container.status == "running", server.container.logs().decode()
        assert time.monotonic() < deadline, server.container.logs().decode()
        time.sleep(0.1)


def test_it_answers_drains_and_ends_with_0_without_rights(server: Server) -> None:
    assert server.complete("12+34=")["choices"][0]["text"] == "46"
    assert server.run("id", "-u")[1].strip() == "10001"
    assert server.run("touch", "/srv/file")[0] != 0
    server.container.stop(timeout=STOP_SECONDS)
    server.container.reload()
    assert server.container.attrs["State"]["ExitCode"] == 0


def test_there_is_no_compiler_and_no_installer_in_it(client: docker.DockerClient, image: Image) -> None:
    script = "command -v gcc cc g++ clang make pip pip3; exit 0"
    printed = client.containers.run(
        image.id or "", ["-c", script], entrypoint="/bin/sh", network_mode="none", remove=True
    )
    assert printed.decode() == ""


def test_its_bill_of_materials_lists_what_the_server_needs(client: docker.DockerClient, image: Image) -> None:
    printed = client.containers.run(image.id or "", [SBOM], entrypoint="cat", network_mode="none", remove=True)
    bill = json.loads(printed)
    assert bill["bomFormat"] == "CycloneDX"
    purls = {component["name"]: component["purl"] for component in bill["components"]}
    assert purls["torch"].startswith("pkg:pypi/torch@2.")
    assert {"transformers", "fastapi", "uvicorn", "safetensors"} <= purls.keys()


def test_its_labels_say_what_it_is(image: Image, serving_image: ServingImage) -> None:
    prefix = "org.opencontainers.image"
    labels = image.labels
    assert labels[f"{prefix}.title"] == "arithmetic"
    assert labels[f"{prefix}.revision"] == "r2"
    assert labels[f"{prefix}.version"] == serving_image.spec.version
    assert labels[f"{prefix}.base.name"] == serving_image.spec.base
    assert labels[f"{prefix}.base.digest"].startswith("sha256:")
    assert labels[f"{prefix}.created"].endswith("+00:00")
    assert labels["sluice.revision.digest"] == serving_image.spec.revision.digest
    assert image.attrs["Config"]["User"] == "10001:10001"


def test_the_weights_are_the_last_layer(docker_engine: Engine, serving_image: ServingImage) -> None:
    layers = layers_of(docker_engine.registry, serving_image.reference)
    for layer in layers:
        print(f"{layer.compressed_bytes / 1e6:9.2f} MB  {layer.made_by[:100]}")
    weights = sum(file.stat().st_size for file in serving_image.spec.revision.location.iterdir())
    assert 0.5 * weights < layers[-1].compressed_bytes < weights + 10_000
    assert layers[-1].made_by.startswith("COPY dir:")


def test_a_refresh_pushes_the_weights_and_takes_seconds(serving_image: ServingImage) -> None:
    figures = measure(STATE / "engine.json")
    print(figures)
    assert figures.refresh_pushed_overhead_mb <= 5
    assert figures.refresh_build_overhead_seconds <= 10
