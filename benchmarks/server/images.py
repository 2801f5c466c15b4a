"""What a refresh of the serving image costs on a warm cache: bytes pushed, seconds; and the bytes of each layer.

`python -m benchmarks.server.images var/engine/engine.json` prints it; `python -m sandbox.engine up` makes that file.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.engine.description import Engine
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.ports import ImageSpec, Revision

PROJECT = Path(__file__).resolve().parents[2]
CONTEXT = PROJECT / "model_image"
REVISION = CONTEXT / "arithmetic" / "r2"
REPOSITORY = "benchmarks/arithmetic"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class Layer:
    """One layer as the registry keeps it."""

    made_by: str
    """The Dockerfile's instruction, as the image's history tells it."""
    compressed_bytes: int


@dataclass(frozen=True)
class ImageFigures:
    """What one refresh of the model `arithmetic` cost."""

    layers: tuple[Layer, ...]
    """Of the refreshed image, the base first, the weights last."""
    weights_bytes: int
    """The new revision's files."""
    refresh_pushed_bytes: int
    """By how much the registry's storage of the repository grew."""
    refresh_pushed_overhead_mb: float
    """Pushed beyond the weights; 0 if they were compressed to less than their size."""
    refresh_build_overhead_seconds: float
    """Building and pushing beyond what copying the weights takes on this machine."""


def measure(engine_json: Path) -> ImageFigures:
    """Build an image, then refresh it with weights that were never seen before.

    Raises:
        EngineMissing: `engine_json` describes no engine.
        SluiceError: a build or a push fails.
    """
    engine = Engine.read(engine_json)
    images = DockerImages(EngineSettings(engine.docker_host, build_args=engine.build_args, network="host"))
    asyncio.run(images.build(_spec(engine, "warm-up", REVISION), _quiet))
    storage = Path(engine.registry_storage)
    before = stored_bytes(storage, REPOSITORY)
    with tempfile.TemporaryDirectory() as folder:
        revision, copy_seconds = _new_revision(Path(folder) / "new")
        weights = sum(file.stat().st_size for file in revision.iterdir())
        began = time.monotonic()
        reference = asyncio.run(images.build(_spec(engine, f"refresh-{os.urandom(4).hex()}", revision), _quiet))
        seconds = time.monotonic() - began
    pushed = stored_bytes(storage, REPOSITORY) - before
    return ImageFigures(
        layers=layers_of(engine.registry, reference),
        weights_bytes=weights,
        refresh_pushed_bytes=pushed,
        refresh_pushed_overhead_mb=max(0.0, (pushed - weights) / BYTES_PER_MB),
        refresh_build_overhead_seconds=max(0.0, seconds - copy_seconds),
    )


def layers_of(registry: str, reference: str) -> tuple[Layer, ...]:
    """The layers of an image in a registry that asks for no password; the base first."""
    repository, _, digest = reference.removeprefix(f"{registry}/").partition("@")
    url = f"http://{registry}/v2/{repository}"
    manifest = _json(f"{url}/manifests/{digest}")
    history = _json(f"{url}/blobs/{manifest['config']['digest']}")["history"]
    made_by = [entry.get("created_by") or entry.get("comment", "") for entry in history if not entry.get("empty_layer")]
    return tuple(
        Layer(" ".join(words.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").split()), layer["size"])
        for words, layer in zip(made_by, manifest["layers"], strict=True)
    )


def stored_bytes(registry_storage: Path, repository: str) -> int:
    """Bytes of all blobs that a registry on this machine keeps for a repository, whatever it keeps for others.

    `repository` is without the registry's address. The layout is that of the registry's filesystem driver.
    """
    v2 = registry_storage / "docker" / "registry" / "v2"
    links = (v2 / "repositories" / repository).glob("**/sha256/*/link")
    blobs = {link.parent.name for link in links}
    return sum((v2 / "blobs" / "sha256" / blob[:2] / blob / "data").stat().st_size for blob in blobs)


def _spec(engine: Engine, version: str, revision: Path) -> ImageSpec:
    return ImageSpec(
        repository=f"{engine.registry}/{REPOSITORY}",
        version=f"{version}-{os.getpid()}",
        context=CONTEXT,
        revision=Revision(revision.name, "sha256:" + "0" * 64, revision),
        model="arithmetic",
        base=engine.base_image,
    )


def _new_revision(folder: Path) -> tuple[Path, float]:
    """A copy of the revision that nobody has seen, and how long copying took."""
    began = time.monotonic()
    shutil.copytree(REVISION, folder)
    seconds = time.monotonic() - began
    (folder / "nonce").write_bytes(os.urandom(32))
    return folder, seconds


def _json(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Accept": MANIFEST})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _quiet(_: str) -> None:
    pass


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1]))), indent=2))
