"""The absolute floor: the canary fails more than the policy ever allows, *and stable does not*.

Without the second half a shared incident would roll back. So the null hypothesis is, in each block of windows, "the
canary keeps the floor, or stable breaks it too", and a block multiplies the wealth by the *smaller* of two factors:
one whose expectation is ≤ 1 if the canary keeps the floor, one for stable breaking it. A block lasts until stable has
had enough requests, (1 − c)^k ≤ c, to show as much as one bad request of the canary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge import noninferiority
from sluice.judge.process import Design
from sluice.judge.regression import above_ceiling
from sluice.judge.starts import StartMixture
from sluice.judge.windows import Arms


def stable_requests_needed(ceiling: float, kappa: float) -> int:
    """Return how many requests of stable make a block, for a tolerated bad rate and a burst factor."""
    return math.ceil(kappa * math.log(ceiling) / math.log1p(-ceiling))


@dataclass(frozen=True)
class FloorProcess:
    """E-process over blocks of windows of one step, with a mixture over starts."""

    step: int = -1
    block: Arms | None = None
    mixture: StartMixture = field(default_factory=StartMixture)

    def observe(self, design: Design, step: int, window: Arms) -> Self:
        """Return the process after one window; without stable's arm there is nothing to ask, see `above_ceiling`."""
        block = window.joined(self.block if step == self.step else None)
        if block.stable is None:
            return replace(self, step=step, block=None)
        if not block.complete or block.stable.requests < stable_requests_needed(design.ceiling, design.kappa_promote):
            return replace(self, step=step, block=block)
        broken = above_ceiling(block.canary, design.alternatives, design.ceiling, design.kappa)
        stable_wealth = noninferiority.below_ceiling(block.stable, design.ceiling)
        kept = noninferiority.log_e(noninferiority.add(noninferiority.START, stable_wealth, design.kappa_promote))
        mixture = self.mixture.advance(step, [min(up, kept) for up in broken], design.steps)
        return replace(self, step=step, block=None, mixture=mixture)

    def log_e(self, design: Design) -> float:
        """Return log E."""
        return self.mixture.log_e(design.alternatives)
