"""The mixture over starts: a canary may be worse from its first request, or only since a later step brought load.

A test with one start has lost so much by the time of a late regression that it needs several times the requests; a
fresh test at each step would forget. Weighted starts in one e-process keep both, at the same error rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sluice.judge.logspace import log, log_add, log_sum

FIRST_START = 0.7
"""Weight of the start at the first exposed window; the rest is shared by the later steps and the soak."""


@dataclass(frozen=True, slots=True)
class StartMixture:
    """The e-process over a whole release: the canary is worse since the first exposure, a later step, or the soak.

    A_j = (A_j + ω)·exp L_j with ω > 0 at the first window of a step, E = Σ_j π_j (A_j + weight of the starts to come).
    `log_wealth` holds log A_j; empty until the first window.
    """

    log_wealth: tuple[float, ...] = ()
    step: int = -1
    start_weight: float = 0.0
    starts_to_come: int = 0

    def advance(self, step: int, increments: Sequence[float], soak_step: int) -> Self:
        """Return the process after one window of `step`, whose log increments per alternative are given."""
        if not self.log_wealth:
            return self._first(step, increments, soak_step)
        if step > self.step and self.starts_to_come:
            start, come = math.log(self.start_weight), self.starts_to_come - 1
            wealth = tuple([log_add(a, start) + up for a, up in zip(self.log_wealth, increments, strict=True)])
            return type(self)(wealth, step, self.start_weight, come)
        if not any(increments):
            return self
        wealth = tuple([a + up for a, up in zip(self.log_wealth, increments, strict=True)])
        return type(self)(wealth, self.step, self.start_weight, self.starts_to_come)

    def _first(self, step: int, increments: Sequence[float], soak_step: int) -> Self:
        later = max(0, soak_step - step)
        weight = (1.0 - FIRST_START) / later if later else 0.0
        start = math.log(FIRST_START if later else 1.0)
        return type(self)(tuple([start + up for up in increments]), step, weight, later)

    def log_e(self, alternatives: Sequence[tuple[float, float]]) -> float:
        """Return log E of the (alternative, its weight in the mixture); 0 before the first window."""
        if not self.log_wealth:
            return 0.0
        to_come = log(self.start_weight * self.starts_to_come)
        return log_sum(
            [
                math.log(weight) + log_add(wealth, to_come)
                for (_, weight), wealth in zip(alternatives, self.log_wealth, strict=True)
            ]
        )


NOT_STARTED = StartMixture()
