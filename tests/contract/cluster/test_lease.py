"""One release at a time: a lease is held, renewed, given up, runs out and is taken over, on a real API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from kubernetes_asyncio.client.api_client import ApiClient

from sluice.cluster.api import LEASE, Api
from sluice.cluster.coordinates import Coordinates
from sluice.cluster.lease import KubernetesLease, leases
from sluice.errors import Ambiguous, LeaseHeld, Superseded

FIVE_MINUTES = timedelta(minutes=5)


@dataclass
class Clock:
    """Wall clock in the tests' hands."""

    time: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def where(namespace: str) -> Coordinates:
    return Coordinates(namespace, "vs", "dr", "host", "live")


@pytest.fixture
def lease(client: ApiClient, where: Coordinates, clock: Clock) -> KubernetesLease:
    return KubernetesLease(client, "m", where, clock)


async def transitions(api: Api, where: Coordinates) -> int:
    found: int = (await api.get(LEASE, where.namespace, "sluice-m"))["spec"]["leaseTransitions"]
    return found


async def test_nobody_holds_what_was_never_taken(lease: KubernetesLease) -> None:
    assert await lease.read() is None


async def test_a_taken_lease_names_its_holder_and_duration(lease: KubernetesLease) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    state = await lease.read()
    assert state is not None
    assert (state.holder, state.duration) == ("r1", FIVE_MINUTES)


async def test_a_held_lease_is_refused_with_its_holder_and_end(lease: KubernetesLease, clock: Clock) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    clock.time += timedelta(minutes=4)
    with pytest.raises(LeaseHeld, match=r"sluice-m: release r1 holds it until 2026-01-02 03:09:05 UTC"):
        await lease.acquire("r2", FIVE_MINUTES)


async def test_the_holder_takes_its_own_lease_again(lease: KubernetesLease, api: Api, where: Coordinates) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    await lease.acquire("r1", FIVE_MINUTES)
    assert await transitions(api, where) == 0


async def test_renewing_moves_the_end(lease: KubernetesLease, clock: Clock) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    before = await lease.read()
    clock.time += timedelta(minutes=4)
    await lease.renew("r1")
    after = await lease.read()
    clock.time += timedelta(minutes=4)
    with pytest.raises(LeaseHeld):
        await lease.acquire("r2", FIVE_MINUTES)
    assert before is not None
    assert after is not None
    assert before.renewals != after.renewals


async def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_told(
    lease: KubernetesLease, clock: Clock, api: Api, where: Coordinates
) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    clock.time += FIVE_MINUTES
    await lease.acquire("r2", FIVE_MINUTES)
    assert await transitions(api, where) == 1
    with pytest.raises(Superseded, match="r2 holds it, not release r1"):
        await lease.renew("r1")


async def test_what_nobody_holds_cannot_be_renewed(lease: KubernetesLease) -> None:
    with pytest.raises(Superseded, match="nobody holds it"):
        await lease.renew("r1")


async def test_a_lease_that_was_given_up_is_free_at_once(lease: KubernetesLease) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    await lease.release("r1")
    state = await lease.read()
    assert state is not None
    assert state.holder == ""
    await lease.acquire("r2", FIVE_MINUTES)


async def test_only_the_holder_gives_a_lease_up(lease: KubernetesLease) -> None:
    await lease.release("r1")
    await lease.acquire("r1", FIVE_MINUTES)
    await lease.release("r2")
    state = await lease.read()
    assert state is not None
    assert state.holder == "r1"


async def test_of_two_releases_at_the_same_time_one_gets_the_lease(lease: KubernetesLease) -> None:
    claims = [lease.acquire(f"r{number}", FIVE_MINUTES) for number in range(4)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(result) for result in results].count(LeaseHeld) == 3
    assert results.count(None) == 1


async def test_the_guard_finds_each_models_traffic_by_its_lease(
    client: ApiClient, lease: KubernetesLease, where: Coordinates
) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    await KubernetesLease(client, "other", where).acquire("r7", FIVE_MINUTES)
    found = {found.model: found for found in await leases(client, [where.namespace])}
    assert {model: (one.state.holder, one.coordinates()) for model, one in found.items()} == {
        "m": ("r1", where),
        "other": ("r7", where),
    }


async def test_leases_of_all_namespaces_are_found(
    client: ApiClient, lease: KubernetesLease, where: Coordinates
) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    assert where.namespace in {found.namespace for found in await leases(client)}


async def test_a_damaged_lease_does_not_hide_the_others(
    client: ApiClient, lease: KubernetesLease, where: Coordinates, api: Api
) -> None:
    await lease.acquire("r1", FIVE_MINUTES)
    await api.patch(
        LEASE, where.namespace, "sluice-m", [{"op": "remove", "path": "/metadata/annotations/sluice.dev~1host"}]
    )
    (found,) = await leases(client, [where.namespace])
    with pytest.raises(Ambiguous, match=r"sluice-m: the annotation 'sluice\.dev/host' is missing"):
        found.coordinates()
