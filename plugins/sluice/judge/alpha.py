"""How the error budget of a release is split over its gates."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.judge.verdict import InvalidGate


@dataclass(frozen=True, slots=True)
class AlphaSplit:
    """Error rates per gate from two totals.

    `rollback` bounds the chance that a healthy canary is rolled back by any gate at any moment of its release. Latency
    and behaviour are asked twice, by the examination's paired probes and by live traffic: each has its own part.
    `fidelity`: the policy sets a limit of fidelity, which then takes a third of quality's part.
    `promote` bounds, for each required gate, the chance that a canary at the margin is found non-inferior; requiring
    all of them needs no further split (intersection-union). The share test only holds, so it is not part of
    `rollback`.
    """

    rollback: float = 0.01
    promote: float = 0.05
    share: float = 0.001
    fidelity: bool = False

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
        return 0.20 * self.rollback

    @property
    def latency_examination(self) -> float:
        return 0.05 * self.rollback

    @property
    def quality(self) -> float:
        return (0.10 if self.fidelity else 0.15) * self.rollback

    @property
    def category(self) -> float:
        return 0.05 * self.rollback

    @property
    def fidelity_examination(self) -> float:
        """0 without a limit: nothing is asked."""
        return 0.05 * self.rollback if self.fidelity else 0.0

    @property
    def behaviour(self) -> float:
        return 0.025 * self.rollback

    @property
    def behaviour_examination(self) -> float:
        return 0.025 * self.rollback

    @property
    def total(self) -> float:
        """Sum of all parts: `rollback`."""
        live = self.errors + self.floor + self.latency + self.behaviour
        examination = self.latency_examination + self.behaviour_examination + self.quality + self.category
        return live + examination + self.fidelity_examination
