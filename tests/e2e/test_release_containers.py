"""Releases whose pods are containers of the images that their own build tasks have built and pushed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import docker
import httpx
import pytest

from benchmarks.demo.world import down
from sandbox.engine.description import Engine
from sandbox.node.engine import NODE_LABEL
from tests.docker_engine import SERVING_IMAGE_SECONDS, ServingImage, docker_engine, engine_settings, serving_image
from tests.e2e.stage import Finished, Stage, assert_at_rest, assert_no_user_lost, until
from tests.e2e.users import Users

__all__ = ["docker_engine", "engine_settings", "serving_image"]

pytestmark = pytest.mark.timeout(SERVING_IMAGE_SECONDS)


@pytest.fixture(scope="module")
def contained(
    docker_engine: Engine, serving_image: ServingImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A world like the other tests', but for the pods. `serving_image` leaves the server's packages in the cache."""
    stage = Stage(tmp_path_factory.mktemp("contained"), docker_engine)
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(down, stage.world)
        stage.up()
        at_the_end.callback(stage.cluster.close)
        yield stage
    assert stage.processes() == []


@pytest.fixture(scope="module")
def client(docker_engine: Engine) -> Iterator[docker.APIClient]:
    with contextlib.closing(docker.APIClient(base_url=docker_engine.docker_host)) as client:
        yield client


@pytest.fixture(scope="module")
def first(contained: Stage) -> Finished:
    contained.revision("r1", base="r1")
    return contained.release("r1").finished()


@pytest.fixture(scope="module")
def crowd(contained: Stage, first: Finished) -> Iterator[Users]:
    assert first.state == "success", first.told["reason"]
    with contained.users() as crowd:
        yield crowd


@pytest.fixture(scope="module")
def promoted(contained: Stage, crowd: Users) -> Finished:
    return contained.release(contained.revision("r2")).finished()


@pytest.fixture(scope="module")
def damaged(contained: Stage, promoted: Finished) -> Finished:
    return contained.release(contained.revision("r3", base="r3")).finished()


@pytest.fixture(scope="module")
def failing(contained: Stage, damaged: Finished) -> Finished:
    """A fifth of users' requests from the second on, so that its examination, whose probes are no users, is passed."""
    return contained.release(contained.revision("failing", fault="error_after:1:0.2", allow_faults=True)).finished()


def image_of(finished: Finished) -> dict[str, Any]:
    """What the build task has recorded."""
    (data,) = (entry.data for entry in finished.entries if entry.kind == "image")
    return dict(data)


def containers_of(client: docker.APIClient, stage: Stage) -> list[dict[str, Any]]:
    return list(client.containers(filters={"label": f"{NODE_LABEL}={stage.world.sandbox / 'node'}"}))


def test_a_first_version_is_built_pushed_and_runs_as_a_container(
    contained: Stage, first: Finished, client: docker.APIClient
) -> None:
    assert (first.state, first.told["outcome"]) == ("success", "promoted"), first.told["reason"]
    image = image_of(first)
    assert image["built"]
    repository, digest = image["image"].split("@")
    registry, name = repository.split("/", 1)
    manifests = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    pushed = httpx.get(f"http://{registry}/v2/{name}/manifests/{first.version}", headers=manifests, trust_env=False)
    assert pushed.headers["Docker-Content-Digest"] == digest


def test_a_better_revision_is_promoted_through_every_step(promoted: Finished) -> None:
    assert (promoted.state, promoted.told["outcome"]) == ("success", "promoted"), promoted.told["reason"]
    assert [step["weight"] for step in promoted.told["steps"]] == [10, 50, 90]
    assert [step["verdict"] for step in promoted.told["steps"]] == ["advance"] * 3
    assert image_of(promoted)["built"]


def test_damaged_weights_are_stopped_before_any_user_sees_them(contained: Stage, damaged: Finished) -> None:
    assert (damaged.state, damaged.told["outcome"]) == ("failed", "rolled_back")
    assert damaged.sentence.startswith("stopped by the examination, before any user saw it: quality: ")
    assert contained.cluster.users_starts(damaged.version) == []


def test_a_canary_that_fails_users_is_rolled_back(contained: Stage, failing: Finished) -> None:
    assert (failing.state, failing.told["outcome"]) == ("failed", "rolled_back")
    assert failing.sentence.startswith("errors: ")
    assert contained.cluster.users_starts(failing.version) != []


def test_only_the_last_good_version_is_left_and_no_user_lost_a_request_to_it(
    contained: Stage, crowd: Users, promoted: Finished, failing: Finished, client: docker.APIClient
) -> None:
    assert_at_rest(contained)
    assert contained.cluster.deployments == [promoted.version]
    until(lambda: len(containers_of(client, contained)) == 1, "the other versions' containers are gone")
    (left,) = containers_of(client, contained)
    assert left["Image"] == image_of(promoted)["image"]
    confined = client.inspect_container(left["Id"])
    assert (confined["Config"]["User"], confined["HostConfig"]["ReadonlyRootfs"]) == ("10001:10001", True)
    assert_no_user_lost(contained, crowd, {failing.version})
