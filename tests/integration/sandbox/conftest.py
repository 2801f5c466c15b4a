"""One sandbox for all tests that only use it; those about starting and stopping have their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_sandbox import LiveSandbox, make_bundle, sandbox_command, up_options

from tests.docker_engine import docker_engine

__all__ = ["docker_engine"]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    state, bundles = tmp_path_factory.mktemp("sandbox"), tmp_path_factory.mktemp("bundles")
    image = make_bundle(bundles, "stand-in")
    started = sandbox_command("up", state, *up_options(bundles))
    assert started.returncode == 0, started.stderr
    live = LiveSandbox(state, image)
    yield live
    live.close()
    stopped = sandbox_command("down", state)
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="session")
def versions(sandbox: LiveSandbox) -> LiveSandbox:
    """The versions `one` and `two` run, with their subsets."""
    sandbox.subsets("one", "two")
    sandbox.deploy("one")
    sandbox.deploy("two", replicas=2)
    return sandbox


@pytest.fixture
def routed(versions: LiveSandbox) -> LiveSandbox:
    """Everything goes to version `one`."""
    versions.subsets("one", "two")
    versions.weights(one=100)
    versions.until_served("one")
    return versions


@pytest.fixture
def own_state(tmp_path: Path) -> Iterator[Path]:
    """A state directory whose sandbox, if a test starts one, is stopped."""
    state = tmp_path / "state"
    yield state
    assert sandbox_command("down", state).returncode == 0
