"""The demonstration's world with containers: what Sluice is told of the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.demo.world import World, WorldError, write_policies
from sandbox.engine.description import Engine
from sluice import policy, settings

ENGINE = Engine(
    docker_host="unix:///engine.sock",
    registry="127.0.0.1:5000",
    registry_storage="/registry",
    base_image="127.0.0.1:5000/base:1",
    build_args={"PIP_CERT": "/cert", "PIP_FIND_LINKS": "http://127.0.0.1:1/ http://127.0.0.1:1/2"},
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One whose sandbox says that it runs containers."""
    (tmp_path / "sandbox").mkdir()
    addresses = {name: "x" for name in ("kubeconfig", "gateway_url", "metrics_url", "federate_url")}
    (tmp_path / "sandbox" / "sandbox.json").write_text(json.dumps({**addresses, "runtime": "docker"}))
    return World(tmp_path, runtime="docker")


def test_the_policies_name_the_engines_registry_and_base_image(world: World) -> None:
    write_policies(world, ENGINE)
    copied = policy.read(world.own_releases / "arithmetic.yaml")
    original = policy.read(world.releases / "arithmetic.yaml")
    assert copied.image.repository == f"{ENGINE.registry}/{original.image.repository}"
    assert copied.image.base == ENGINE.base_image
    assert copied.model_copy(update={"image": original.image}) == original
    for path in (copied.image.context, copied.gates.quality.prompts):
        assert (world.own_releases.parent / path).exists()


def test_policies_are_written_again_by_the_next_start(world: World) -> None:
    write_policies(world, ENGINE)
    (world.own_releases / "arithmetic.yaml").write_text("edited")
    write_policies(world, ENGINE)
    assert policy.read(world.own_releases / "arithmetic.yaml").image.base == ENGINE.base_image


def test_sluice_is_told_which_engine_builds_and_with_what(world: World) -> None:
    ENGINE.write(world.own_engine / "engine.json")
    told = settings.read(world.variables())
    assert (told.images, told.docker_host, told.build_network) == ("docker", ENGINE.docker_host, "host")
    assert told.build_args == ENGINE.build_args
    assert told.releases == world.own_releases


def test_a_world_without_its_engine_says_how_to_get_one(world: World) -> None:
    with pytest.raises(WorldError, match=r"run `python -m sandbox\.engine up"):
        world.variables()
