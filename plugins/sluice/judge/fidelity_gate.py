"""The fidelity gate: does the canary give the same tokens other probabilities than stable does?

Where both versions share a tokenizer, each prompt's text is forced through both, and the divergence is the mean
|Δ log-probability| over its tokens. A bad quantization shows in tens of prompts, long before answers get worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from sluice.judge import betting
from sluice.judge.betting import UP_STAKES
from sluice.judge.logspace import exp
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, against
from sluice.judge.windows import InvalidEvidence

CAP = 10.0
"""Divergences count up to so many times the limit. The test is valid with any cap, since cutting only lowers the mean.
This one lets a prompt multiply the wealth by at most 8.2, so that one that went astray alone (the versions' texts cut
apart, say) decides nothing: it takes five."""


@dataclass(frozen=True)
class FidelityGate:
    """Configuration and what was seen so far.

    `limit`: mean divergence over prompts, in nats per token, above which the canary is a regression; None: it is only
    reported, and `alpha_regression` is not used. There is no non-inferiority: how much divergence harms is not known.
    """

    limit: float | None
    alpha_regression: float = 0.0005
    wealth: tuple[float, ...] = betting.start(UP_STAKES)
    prompts: int = 0
    total: float = 0.0
    largest: float = 0.0
    log_e_regression: float = 0.0

    def __post_init__(self) -> None:
        if self.limit is None:
            return
        if not 0.0 < self.limit < math.inf:
            raise InvalidGate(f"fidelity.limit: {self.limit} nats per token must be above 0")
        if not 0.0 < self.alpha_regression < 1.0:
            raise InvalidGate(f"fidelity.alpha_regression: {self.alpha_regression} must lie between 0 and 1")

    def observe(self, divergence: float) -> Self:
        """Return the gate after one prompt's mean |Δ log-probability| per token, in nats.

        Raises:
            InvalidEvidence: the divergence is negative or not a finite number.
        """
        if not 0.0 <= divergence < math.inf:
            raise InvalidEvidence(f"divergence: {divergence} nats per token must be finite and at least 0")
        seen = replace(
            self,
            prompts=self.prompts + 1,
            total=self.total + divergence,
            largest=max(self.largest, divergence),
        )
        return seen if self.limit is None else seen._bet(divergence / self.limit)

    def _bet(self, times_limit: float) -> Self:
        wealth = betting.bet(self.wealth, UP_STAKES, betting.over_floor(min(times_limit, CAP) / CAP, 1.0 / CAP))
        return replace(self, wealth=wealth, log_e_regression=max(self.log_e_regression, betting.log_e(wealth)))

    def verdict(self) -> Verdict:
        """Return what the evidence says now: regression (with a limit only), inconclusive or no_data."""
        if not self.prompts:
            return Verdict("fidelity", Outcome.no_data, "fidelity: no prompt has been compared yet", {"prompts": 0.0})
        mean = self.total / self.prompts
        numbers = {"prompts": float(self.prompts), "mean": mean, "maximum": self.largest}
        text = f"{mean:.3g} nats per token over {self.prompts} prompts, at most {self.largest:.3g}"
        if self.limit is None:
            return Verdict("fidelity", Outcome.inconclusive, f"fidelity: {text}; no limit is set", numbers)
        e, needed = exp(self.log_e_regression), 1.0 / self.alpha_regression
        outcome = Outcome.regression if e >= needed else Outcome.inconclusive
        sentence = f"fidelity: {text}; more than {self.limit:g}: {against(e, needed)}"
        numbers |= {"limit": self.limit, "e_regression": e, "e_regression_limit": needed}
        return Verdict("fidelity", outcome, sentence, numbers)
