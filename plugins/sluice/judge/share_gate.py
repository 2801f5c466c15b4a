"""The share gate: is live traffic split as it was written?

A sequential sample-ratio test on requests *started*. It holds a release; it never rolls one back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from sluice.judge.logspace import exp
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, percent
from sluice.judge.windows import StartedWindow

CONCENTRATION = 100.0
"""k of the Beta(k·p, k·(1−p)) mixture: how far from the weight p the test looks first."""


def log_e_weight(canary: float, stable: float, weight: float) -> float:
    """Return log E against "each started request goes to the canary with probability `weight`" (0…1).

    Source: Lindon & Malek, *Anytime-valid inference for multinomial count data* (NeurIPS 2022), with two arms.
    """
    if weight in (0.0, 1.0):
        return math.inf if (canary if weight == 0.0 else stable) else 0.0
    a, b = CONCENTRATION * weight, CONCENTRATION * (1.0 - weight)
    log_beta = _log_beta(a + canary, b + stable) - _log_beta(a, b)
    return log_beta - canary * math.log(weight) - stable * math.log1p(-weight)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@dataclass(frozen=True)
class ShareGate:
    """Configuration and what was seen so far. Weights are percent.

    The share *agrees* once the old weight is rejected at `alpha_agree` and the new one is not; it keeps agreeing until
    the new weight is rejected at `alpha_keep`. Whenever the new weight is rejected (the write has not reached the data
    plane yet, or the split drifted) counting starts anew, so that an early lag is not held against the whole step;
    to agree again, the share that contradicted must be rejected like the old weight.
    """

    old_weight: float
    new_weight: float
    alpha_agree: float = 0.01
    alpha_keep: float = 0.001
    canary: int = 0
    stable: int = 0
    agrees: bool = False
    contradicted: StartedWindow | None = None

    def __post_init__(self) -> None:
        for name, weight in (("old_weight", self.old_weight), ("new_weight", self.new_weight)):
            if not 0.0 <= weight <= 100.0:
                raise InvalidGate(f"share.{name}: {weight} must lie between 0 and 100")
        if self.old_weight == self.new_weight:
            raise InvalidGate(f"share.new_weight: {self.new_weight} equals the old weight; there is no change to see")

    def observe(self, window: StartedWindow) -> Self:
        """Return the gate after one window."""
        seen = replace(self, canary=self.canary + window.canary, stable=self.stable + window.stable)
        old, new = seen._log_e()
        if new >= -math.log(self.alpha_keep):
            contradicted = StartedWindow(seen.canary, seen.stable)
            return replace(self, canary=0, stable=0, agrees=False, contradicted=contradicted)
        shown = old >= -math.log(self.alpha_agree) and new < -math.log(self.alpha_agree)
        agrees = self.agrees or shown
        return replace(seen, agrees=agrees, contradicted=None if agrees else self.contradicted)

    def _log_e(self) -> tuple[float, float]:
        """Return log E against what must be rejected to agree, and against the new weight."""
        others = [self.old_weight / 100.0]
        if self.contradicted:
            others.append(self.contradicted.canary / (self.contradicted.canary + self.contradicted.stable))
        old = min(log_e_weight(self.canary, self.stable, share) for share in others)
        return old, log_e_weight(self.canary, self.stable, self.new_weight / 100.0)

    def verdict(self) -> Verdict:
        """Return non_inferior if the share agrees, no_data if it contradicts or is not known, else inconclusive."""
        total = self.canary + self.stable
        old, new = self._log_e()
        numbers = {"canary_started": float(self.canary), "stable_started": float(self.stable)}
        numbers |= {"new_weight": float(self.new_weight), "e_old_weight": exp(old), "e_new_weight": exp(new)}
        if total:
            numbers["observed_percent"] = 100.0 * self.canary / total
        return Verdict("share", self._outcome(), f"share: {self._sentence()}", numbers)

    def _outcome(self) -> Outcome:
        if self.agrees:
            return Outcome.non_inferior
        nothing = not self.canary + self.stable
        return Outcome.no_data if nothing or self.contradicted else Outcome.inconclusive

    def _sentence(self) -> str:
        counts = self.contradicted or StartedWindow(self.canary, self.stable)
        total = counts.canary + counts.stable
        if not total:
            return "no request has started since the weight was written"
        observed = f"{percent(counts.canary / total)} of {total} requests started at the canary"
        if self.contradicted:
            return f"{observed}, which contradicts the weight of {self.new_weight:g} %"
        return f"{observed}, {'as' if self.agrees else 'not yet shown to be as'} written ({self.new_weight:g} %)"
