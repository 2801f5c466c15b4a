"""How the error budget of a release is split over its gates."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.judge.verdict import InvalidGate


@dataclass(frozen=True, slots=True)
class AlphaSplit:
    """Error rates per gate from two totals.

    `rollback` bounds the chance that a healthy canary is rolled back by any gate at any moment of its release.
    `promote` bounds, for each required gate, the chance that a canary at the margin is found non-inferior; requiring
    all of them needs no further split (intersection-union). The share test only holds, so it is not part of
    `rollback`.
    """

    rollback: float = 0.01
    promote: float = 0.05
    share: float = 0.001

    def __post_init__(self) -> None:
        for name in ("rollback", "promote", "share"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise InvalidGate(f"alpha.{name}: {value} must lie between 0 and 1")

    @property
    def errors(self) -> float:
        return 0.45 * self.rollback

    @property
    def floor(self) -> float:
        return 0.05 * self.rollback

    @property
    def latency(self) -> float:
        return 0.25 * self.rollback

    @property
    def quality(self) -> float:
        return 0.15 * self.rollback

    @property
    def category(self) -> float:
        return 0.05 * self.rollback

    @property
    def behaviour(self) -> float:
        return 0.05 * self.rollback
