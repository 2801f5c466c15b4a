"""What prune keeps, and when it does not prune at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from sluice.engine.prune import prune
from sluice.errors import LeaseHeld, Refused
from sluice.ports import WorkloadSpec
from tests.fakes import MORNING, World

LEASE = timedelta(minutes=5)


class FakeCache:
    """Revisions by digest, each with the time at which it was last wanted."""

    def __init__(self, **wanted_hours_ago: float) -> None:
        self.wanted = {digest: MORNING - timedelta(hours=hours) for digest, hours in wanted_hours_ago.items()}

    async def prune(
        self, model: str, keep: Collection[str], since: datetime, *, dry_run: bool = False
    ) -> Sequence[str]:
        gone = [digest for digest, at in self.wanted.items() if digest not in keep and at < since]
        if not dry_run:
            self.wanted = {digest: at for digest, at in self.wanted.items() if digest not in gone}
        return gone


class Deployments:
    """The fake cluster's, by what they name."""

    def __init__(self, world: World) -> None:
        self._workloads = world.workloads

    async def revisions(self) -> Mapping[str, str]:
        return {version: spec.revision for version, spec in self._workloads.specs.items()}


async def pruned(world: World, cache: FakeCache, *, dry_run: bool = False) -> Sequence[str]:
    return await prune("arithmetic", world.lease, Deployments(world), cache, MORNING, dry_run=dry_run)


def deploy(world: World, version: str, revision: str) -> None:
    world.workloads.specs[version] = WorkloadSpec(version, f"image@{version}", revision, 1, {}, {})


@pytest.fixture
def world() -> World:
    """Two versions have a Deployment, of which one has no traffic."""
    made = World()
    deploy(made, "old", "served")
    deploy(made, "warm", "kept")
    return made


async def test_what_a_deployment_names_is_kept_whatever_its_traffic(world: World) -> None:
    cache = FakeCache(served=1000, kept=1000, forgotten=1000)
    assert await pruned(world, cache) == ["forgotten"]
    assert cache.wanted.keys() == {"served", "kept"}


async def test_what_a_release_has_put_but_not_deployed_yet_is_kept(world: World) -> None:
    cache = FakeCache(coming=23, forgotten=25)
    assert await pruned(world, cache) == ["forgotten"]


async def test_a_dry_run_removes_nothing(world: World) -> None:
    cache = FakeCache(forgotten=1000)
    assert await pruned(world, cache, dry_run=True) == ["forgotten"]
    assert cache.wanted.keys() == {"forgotten"}


async def test_nothing_is_pruned_while_a_release_is_under_way(world: World) -> None:
    await world.lease.acquire("rel-7", LEASE)
    cache = FakeCache(forgotten=1000)
    with pytest.raises(LeaseHeld, match="release rel-7 of arithmetic is under way"):
        await pruned(world, cache)
    assert cache.wanted.keys() == {"forgotten"}


async def test_a_settled_release_does_not_keep_anybody_from_pruning(world: World) -> None:
    await world.lease.acquire("rel-7", LEASE)
    await world.lease.release("rel-7")
    assert await pruned(world, FakeCache(forgotten=1000)) == ["forgotten"]


async def test_a_version_that_does_not_say_what_it_uses_stops_pruning(world: World) -> None:
    deploy(world, "strange", "")
    cache = FakeCache(forgotten=1000)
    with pytest.raises(Refused, match="version strange does not say its revision"):
        await pruned(world, cache)
    assert cache.wanted.keys() == {"forgotten"}
