"""The mixture over starts: a canary may be worse from its first request, or only since a later step brought load.

A test with one start has lost so much by the time of a late regression that it needs several times the requests; a
fresh test at each step would forget. Weighted starts in one e-process keep both, at the same error rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        opened, start = self._open(step, len(increments), soak_step)
        wealth = tuple(log_add(a, start) + up for a, up in zip(opened.log_wealth, increments, strict=True))
        return replace(opened, log_wealth=wealth)

    def _open(self, step: int, alternatives: int, soak_step: int) -> tuple[Self, float]:
        """Return the process with `step` opened, and the log weight of the start that this adds (−∞ for none)."""
        if not self.log_wealth:
            later = max(0, soak_step - step)
            weight = (1.0 - FIRST_START) / later if later else 0.0
            nothing = (-math.inf,) * alternatives
            opened = replace(self, log_wealth=nothing, step=step, start_weight=weight, starts_to_come=later)
            return opened, math.log(FIRST_START if later else 1.0)
        if step <= self.step or not self.starts_to_come:
            return self, -math.inf
        return replace(self, step=step, starts_to_come=self.starts_to_come - 1), math.log(self.start_weight)

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
