"""Raw counts beside the tests: they are shown, they do not decide."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice.judge.verdict import percent
from sluice.judge.windows import NO_REQUESTS, Arm, Arms


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums of both arms; `compared` as long as any window had a stable arm."""

    canary: Arm = NO_REQUESTS
    stable: Arm = NO_REQUESTS
    compared: bool = False

    def plus(self, arms: Arms) -> Tally:
        stable = arms.stable
        if stable is None:
            return Tally(self.canary + arms.canary, self.stable, self.compared)
        return Tally(self.canary + arms.canary, self.stable + stable, True)

    def joined(self, other: Tally) -> Tally:
        return Tally(self.canary + other.canary, self.stable + other.stable, self.compared or other.compared)

    @property
    def complete(self) -> bool:
        """Every version that takes part has finished a request."""
        return self.canary.requests > 0 and (not self.compared or self.stable.requests > 0)

    def text(self, bad: str, ceiling: float) -> str:
        """Write `canary 9 of 31 requests bad, stable 2 of 590`; without stable, the ceiling in its place."""
        other = (
            f"stable {self.stable.bad} of {self.stable.requests}" if self.compared else f"allowed {percent(ceiling)}"
        )
        return f"canary {self.canary.bad} of {self.canary.requests} requests {bad}, {other}"

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """Return the counts by name; stable's only if there is one."""
        canary, stable = self.canary, self.stable
        counts = {f"{prefix}canary_requests": float(canary.requests), f"{prefix}canary_bad": float(canary.bad)}
        if self.compared:
            counts[f"{prefix}stable_requests"] = float(stable.requests)
            counts[f"{prefix}stable_bad"] = float(stable.bad)
        return counts


NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Tallies:
    """The counts of the whole release and of the step in work."""

    step: int = -1
    release: Tally = field(default_factory=Tally)
    this_step: Tally = field(default_factory=Tally)

    def plus(self, step: int, *strata: Arms) -> Tallies:
        """Return the counts after one window of `step`, all its strata together."""
        window = NOTHING
        for arms in strata:
            window = window.plus(arms)
        this_step = self.this_step.joined(window) if step == self.step else window
        return Tallies(step, self.release.joined(window), this_step)

    def text(self, bad: str, ceiling: float) -> str:
        """Write the step's counts, and the release's where they are more."""
        step = self.this_step.text(bad, ceiling)
        if self.this_step == self.release:
            return step
        return f"{step} at this step ({self.release.canary.bad} of {self.release.canary.requests} since the first)"
