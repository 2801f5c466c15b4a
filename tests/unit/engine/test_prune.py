"""What prune keeps, and when it does not prune at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from sluice.engine.prune import prune
from sluice.errors import LeaseHeld, Refused
from sluice.ports import WorkloadSpec
from tests.fakes import MORNING, FakeCache, Wire, World

LEASE = timedelta(minutes=5)


async def pruned(world: World, cache: FakeCache, *, dry_run: bool = False) -> Sequence[str]:
    return await prune(world.ports, cache, "arithmetic", dry_run=dry_run)


def holding(**wanted_hours_ago: float) -> FakeCache:
    """A cache with revisions that were last wanted so many hours ago."""
    cache = FakeCache(Wire())
    cache.wanted = {digest: MORNING - timedelta(hours=hours) for digest, hours in wanted_hours_ago.items()}
    return cache


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
    cache = holding(served=1000, kept=1000, forgotten=1000)
    assert await pruned(world, cache) == ["forgotten"]
    assert cache.wanted.keys() == {"served", "kept"}


async def test_what_a_release_has_put_but_not_deployed_yet_is_kept(world: World) -> None:
    cache = holding(coming=23, forgotten=25)
    assert await pruned(world, cache) == ["forgotten"]


async def test_a_dry_run_removes_nothing(world: World) -> None:
    cache = holding(forgotten=1000)
    assert await pruned(world, cache, dry_run=True) == ["forgotten"]
    assert cache.wanted.keys() == {"forgotten"}


async def test_nothing_is_pruned_while_a_release_is_under_way(world: World) -> None:
    await world.lease.acquire("rel-7", LEASE)
    cache = holding(forgotten=1000)
    with pytest.raises(LeaseHeld, match="release rel-7 of arithmetic is under way"):
        await pruned(world, cache)
    assert cache.wanted.keys() == {"forgotten"}


async def test_a_settled_release_does_not_keep_anybody_from_pruning(world: World) -> None:
    await world.lease.acquire("rel-7", LEASE)
    await world.lease.release("rel-7")
    assert await pruned(world, holding(forgotten=1000)) == ["forgotten"]


async def test_a_version_that_does_not_say_what_it_uses_stops_pruning(world: World) -> None:
    deploy(world, "strange", "")
    cache = holding(forgotten=1000)
    with pytest.raises(Refused, match="version strange does not say its revision"):
        await pruned(world, cache)
    assert cache.wanted.keys() == {"forgotten"}
