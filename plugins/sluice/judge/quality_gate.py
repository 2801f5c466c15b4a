"""The quality gate: the same prompts to both versions, one difference of scores per prompt.

Prompts come in an order that was shuffled once with a recorded seed, each prompt once; scores are given blind, by the
same scorer. What is certified holds for the prompt set's population and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge import betting
from sluice.judge.betting import DOWN_STAKES, UP_STAKES
from sluice.judge.logspace import exp, log_mean
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, against, outcome_of, percent, points
from sluice.judge.windows import InvalidEvidence, Pair


@dataclass(frozen=True, slots=True)
class Scores:
    """Raw sums for the sentence; they do not decide."""

    pairs: int = 0
    compared: int = 0
    better: int = 0
    worse: int = 0
    difference: float = 0.0
    canary: float = 0.0

    def plus(self, pair: Pair) -> Scores:
        total, score = replace(self, pairs=self.pairs + 1, canary=self.canary + pair.canary_score), pair.stable_score
        if score is None:
            return total
        return replace(
            total,
            compared=self.compared + 1,
            better=self.better + (pair.canary_score > score),
            worse=self.worse + (pair.canary_score < score),
            difference=self.difference + pair.canary_score - score,
        )

    def text(self) -> str:
        """Write how the canary did, against stable or alone."""
        if not self.compared:
            return f"canary's mean score {percent(self.canary / self.pairs)} over {self.pairs} prompts"
        mean = 100 * self.difference / self.compared
        return (
            f"canary better on {self.better} and worse on {self.worse} of {self.compared} prompts ({mean:+.1f} points)"
        )


@dataclass(frozen=True)
class QualityGate:
    """Configuration and what was seen so far.

    `margin`: drop of the mean score that non-inferiority excludes. `max_drop`: drop that is not yet a regression.
    `floor`: mean score that decides where there is no stable version. `categories`: all of the prompt set's; the
    category guard averages e-values over them, so that a version which is better on the whole cannot hide the loss of
    one category.
    """

    margin: float
    floor: float
    categories: tuple[str, ...]
    max_drop: float = 0.0
    alpha_regression: float = 0.0015
    alpha_category: float = 0.0005
    alpha_promote: float = 0.05
    down: tuple[float, ...] = betting.start(DOWN_STAKES)
    up: tuple[float, ...] = betting.start(UP_STAKES)
    down_by_category: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)
    log_e_regression: float = 0.0
    log_e_category: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("floor", self.floor)):
            if not 0.0 < value < 1.0:
                raise InvalidGate(f"quality.{name}: {value} must lie between 0 and 1")
        if not 0.0 <= self.max_drop < 1.0:
            raise InvalidGate(f"quality.max_drop: {self.max_drop} must be at least 0 and below 1")
        if not self.categories:
            raise InvalidGate(
                "quality.categories: names none; give the prompt set's categories, or one for all prompts"
            )

    def observe(self, pair: Pair) -> Self:
        """Return the gate after one prompt.

        Raises:
            InvalidEvidence: the pair's category is not one of `categories`.
        """
        if pair.category not in self.categories:
            raise InvalidEvidence(
                f"prompt {pair.prompt_id}: category {pair.category!r} is none of {', '.join(self.categories)}"
            )
        scored = replace(self, scores=self.scores.plus(pair))
        return scored._alone(pair) if pair.stable_score is None else scored._compared(pair, pair.stable_score)

    def _compared(self, pair: Pair, stable_score: float) -> Self:
        difference = pair.canary_score - stable_score
        down = betting.drop(difference, self.max_drop)
        before = self.down_by_category.get(pair.category, betting.start(DOWN_STAKES))
        by_category = {**self.down_by_category, pair.category: betting.bet(before, DOWN_STAKES, down)}
        return replace(
            self,
            up=betting.bet(self.up, UP_STAKES, betting.no_drop(difference, self.margin)),
            down_by_category=by_category,
            log_e_category=max(self.log_e_category, log_mean(list(self._log_e_categories(by_category).values()))),
        )._down(down)

    def _alone(self, pair: Pair) -> Self:
        up = betting.bet(self.up, UP_STAKES, betting.over_floor(pair.canary_score, self.floor))
        return replace(self, up=up)._down(betting.under_floor(pair.canary_score, self.floor))

    def _down(self, payoff: float) -> Self:
        down = betting.bet(self.down, DOWN_STAKES, payoff)
        return replace(self, down=down, log_e_regression=max(self.log_e_regression, betting.log_e(down)))

    def _log_e_categories(self, wealth: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
        return {name: betting.log_e(wealth[name]) if name in wealth else 0.0 for name in self.categories}

    def verdict(self) -> Verdict:
        """Return what the evidence says now."""
        e = {
            "e_regression": exp(self.log_e_regression),
            "e_regression_limit": 1.0 / self.alpha_regression,
            "e_category": exp(self.log_e_category),
            "e_category_limit": 1.0 / self.alpha_category,
            "e_non_inferior": exp(betting.log_e(self.up)),
            "e_non_inferior_limit": 1.0 / self.alpha_promote,
        }
        whole, category = e["e_regression"] >= e["e_regression_limit"], e["e_category"] >= e["e_category_limit"]
        outcome = outcome_of(
            any_data=self.scores.pairs > 0,
            regression=whole or category,
            non_inferior=e["e_non_inferior"] >= e["e_non_inferior_limit"],
        )
        return Verdict("quality", outcome, f"quality: {self._sentence(outcome, whole, e)}", self._counts() | e)

    def _counts(self) -> dict[str, float]:
        scores = self.scores
        counts = {"pairs": scores.pairs, "better": scores.better, "worse": scores.worse}
        means = {"canary_mean": scores.canary / scores.pairs if scores.pairs else 0.0}
        if scores.compared:
            means["mean_difference"] = scores.difference / scores.compared
        return {name: float(count) for name, count in counts.items()} | means

    def _sentence(self, outcome: Outcome, whole: bool, e: Mapping[str, float]) -> str:
        if outcome is Outcome.no_data:
            return "no prompt has been scored yet"
        text = self.scores.text()
        if outcome is Outcome.regression and whole:
            return f"{text}; {against(e['e_regression'], e['e_regression_limit'])}"
        if outcome is Outcome.regression:
            by_category = self._log_e_categories(self.down_by_category)
            worst = max(by_category, key=lambda name: by_category[name])
            return f"{text}, but category {worst} got worse; {against(e['e_category'], e['e_category_limit'])}"
        claim = (
            f"at most {points(self.margin)} worse"
            if self.scores.compared
            else f"above the floor of {percent(self.floor)}"
        )
        return f"{text}; {claim}: {against(e['e_non_inferior'], e['e_non_inferior_limit'])}"
