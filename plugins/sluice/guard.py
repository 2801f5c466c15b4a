"""The guard: gives last good all traffic when nobody renews a release's lease any more.

It runs apart from Airflow, so that a release is safe even if its orchestrator never comes back. It times by its own
monotonic clock since it last saw a lease change, never by the timestamps of other machines, and only ever restores.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.engine.writes import restore
from sluice.errors import SluiceError
from sluice.ports import Clock, LeaseState, Traffic
from sluice.release import Phase, weights

PATIENCE_SECONDS = 5.0
"""For one attempt to restore; the next look tries again."""


@dataclass(frozen=True)
class Claim:
    """A model's lease and the traffic that it is about."""

    model: str
    """The same for no two claims; messages name it."""
    lease: LeaseState
    find_traffic: Callable[[], Traffic]
    """Called for a claim that ran out. Raises Ambiguous if the lease does not say where its traffic is."""


@dataclass(frozen=True)
class Sight:
    """When a claim was first seen as it is, by the guard's clock."""

    holder: str
    renewals: str
    since_seconds: float


@dataclass(frozen=True)
class Watchlist:
    """What the guard remembers between two looks: since when each claim has not changed. Pure."""

    sights: Mapping[str, Sight] = field(default_factory=dict)

    def look(self, claims: Sequence[Claim], now_seconds: float) -> Watchlist:
        return Watchlist({claim.model: self._sight(claim, now_seconds) for claim in claims})

    def _sight(self, claim: Claim, now_seconds: float) -> Sight:
        before = self.sights.get(claim.model)
        if before and (before.holder, before.renewals) == (claim.lease.holder, claim.lease.renewals):
            return before
        return Sight(claim.lease.holder, claim.lease.renewals, now_seconds)

    def unrenewed_seconds(self, claim: Claim, now_seconds: float) -> float:
        return now_seconds - self.sights[claim.model].since_seconds

    def expired(self, claims: Sequence[Claim], now_seconds: float) -> list[Claim]:
        """Held claims that nobody has renewed for longer than their duration."""
        return [
            claim
            for claim in claims
            if claim.lease.holder and self.unrenewed_seconds(claim, now_seconds) > claim.lease.duration.total_seconds()
        ]


async def guard(
    find_claims: Callable[[], Awaitable[Sequence[Claim]]],
    clock: Clock,
    report: Callable[[str], None],
    *,
    tick_seconds: float,
) -> None:
    """Look for ever. What does not answer is reported and looked at again."""
    watchlist, complaint = Watchlist(), ""
    while True:
        try:
            claims = await find_claims()
            complaint = ""
            watchlist = watchlist.look(claims, clock.monotonic())
            for claim in watchlist.expired(claims, clock.monotonic()):
                await _restore(claim, watchlist.unrenewed_seconds(claim, clock.monotonic()), clock, report)
        except SluiceError as error:
            if str(error) != complaint:  # once for each trouble, not once a second
                report(f"cannot look: {error}")
            complaint = str(error)
        await clock.sleep(tick_seconds)


async def _restore(claim: Claim, unrenewed_seconds: float, clock: Clock, report: Callable[[str], None]) -> None:
    """One expired claim; another model's trouble must not keep the guard from the rest."""
    try:
        traffic = claim.find_traffic()
        seen = await traffic.read()
        record = seen.record
        if record is None or record.release != claim.lease.holder or record.closed or record.phase is Phase.COMMITTED:
            return
        if record.phase is Phase.ROLLED_BACK and dict(seen.weights) == dict(weights(record)):
            return
        reason = f"the guard restored last good: nobody renewed the release's lease for {unrenewed_seconds:.0f} s"
        record = await restore(traffic, clock, record.release, reason, patience_seconds=PATIENCE_SECONDS)
        report(f"{claim.model}: release {record.release}: {reason}; version {record.last_good} has all traffic")
    except SluiceError as error:
        report(f"{claim.model}: {error}")
