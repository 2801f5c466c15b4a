"""A real Docker Engine and a real registry for whoever tests with them: a conftest imports the fixtures that it needs.

They are started once for all sessions that run at the same time, and stopped with the last. Their files stay in
var/test-engine, so that only the first session ever makes the base image and installs the server's packages.

REQUIRE_DOCKER=1 makes a missing engine a failure instead of a skipped test. The first test that asks for
`serving_image` waits minutes for its build: give such tests a timeout of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.engine.description import Engine
from sandbox.engine.errors import EngineMissing
from sandbox.engine.lifecycle import borrowed
from sluice.images.context import digest_of_context
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.ports import ImageSpec, Revision

PROJECT = Path(__file__).resolve().parents[1]
STATE = PROJECT / "var" / "test-engine"
SERVING_IMAGE_SECONDS = 900
"""The timeout of tests that may have to wait for `serving_image`."""


@dataclass(frozen=True)
class ServingImage:
    """The real serving image of revision r2 of the model `arithmetic`, in the registry."""

    reference: str
    """`repository@sha256:<hex>`."""
    spec: ImageSpec
    """What it was built from; replace version and revision for another image that shares all but the weights."""


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """Engine, registry, base image and build arguments."""
    try:
        with borrowed(STATE, print) as engine:
            yield engine
    except EngineMissing as error:
        if os.environ.get("REQUIRE_DOCKER"):
            raise
        pytest.skip(f"no Docker Engine here: {error}")


@pytest.fixture(scope="session")
def engine_settings(docker_engine: Engine) -> EngineSettings:
    """For DockerImages on this engine."""
    return EngineSettings(docker_engine.docker_host, build_args=docker_engine.build_args, network="host")


@pytest.fixture(scope="session")
def serving_image(
    docker_engine: Engine, engine_settings: EngineSettings, tmp_path_factory: pytest.TempPathFactory
) -> ServingImage:
    """Built at most once: it is found again by what it was built from."""
    spec = serving_image_spec(docker_engine, tmp_path_factory.mktemp("model_image") / "context")
    return ServingImage(asyncio.run(DockerImages(engine_settings).build(spec, print)), spec)


def serving_image_spec(engine: Engine, context: Path) -> ImageSpec:
    """The real server with arithmetic r2, from a copy of model_image/ that nobody edits during the session."""
    shutil.copytree(PROJECT / "model_image", context, ignore=shutil.ignore_patterns("__pycache__"))
    made_from = f"{digest_of_context(context)} {engine.base_image}"
    return ImageSpec(
        repository=f"{engine.registry}/tests/arithmetic",
        version=hashlib.sha256(made_from.encode()).hexdigest()[:12],
        context=context,
        revision=Revision("r2", "sha256:" + "2" * 64, context / "arithmetic" / "r2"),
        model="arithmetic",
        base=engine.base_image,
    )
