"""One world for all end-to-end tests, with a stable version, users who never stop, and a check after every test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from benchmarks.demo.world import down
from tests.e2e.stage import DAG, Finished, Stage, assert_at_rest, assert_no_user_lost
from tests.e2e.users import Users

BROKEN_POLICY = """\
model: broken
source: dir://revisions
image: {repository: sandbox/broken}
serving: {namespace: ai-inference, host: broken.example.com}
steps:
  - {weight: 25}
  - {weight: 10}
gates:
  quality: {prompts: prompts.jsonl}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.slow)
    # Their world is their own and gone when they end; beside the others' there would be two at once.
    items.sort(key=lambda item: item.path.stem != "test_release_containers")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Sandbox, guard and Airflow, up; at the end nothing of them is left."""
    stage = Stage(tmp_path_factory.mktemp("world"))
    (stage.releases / "broken.yaml").write_text(BROKEN_POLICY)
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(down, stage.world)
        stage.up()
        at_the_end.callback(stage.cluster.close)
        yield stage
    assert stage.processes() == []


@pytest.fixture(scope="session")
def first(world: Stage) -> Finished:
    """The model's first release: r1, which has nothing to compare with."""
    world.revision("r1", base="r1")
    return world.release("r1").finished()


@pytest.fixture(scope="session")
def users(world: Stage, first: Finished) -> Iterator[Users]:
    """Users' requests, from the first release on until the end."""
    assert first.state == "success", first.told["reason"]
    with world.users() as crowd:
        yield crowd


@pytest.fixture(scope="session")
def promotion(world: Stage, users: Users) -> tuple[Finished, Finished]:
    """r2 over r1, and the same revision triggered once more while its release runs."""
    world.revision("r2")
    release = world.release("r2")
    release.until("started", use_case="deploy")
    again = world.release("r2")
    release.until("started", use_case="watch", step=0)
    with world.airflow() as airflow:
        assert airflow.run(DAG, again.run_id)["state"] == "queued"
    return release.finished(), again.finished()


@pytest.fixture(scope="session")
def stable_world(world: Stage, promotion: tuple[Finished, Finished]) -> Stage:
    """The world with r2 as its stable version."""
    return world


@pytest.fixture(scope="session")
def excused() -> set[str]:
    """Versions with a fault of their own: what users lost to them is what they are there for."""
    return set()


@pytest.fixture
def stage(stable_world: Stage, users: Users, excused: set[str]) -> Iterator[Stage]:
    """After the test the cluster is at rest, and no user has lost a request to anything but a faulty canary."""
    stable_world.policy()
    yield stable_world
    assert_at_rest(stable_world)
    assert_no_user_lost(stable_world, users, excused)
