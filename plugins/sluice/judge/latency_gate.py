"""The latency gate: are the canary's requests slow more often than stable's, by any of the metrics?

A request is slow if it took longer than its metric's limit, which is a bucket edge where histograms are the source.
Output length is caused by the version, so strata of `e2e` and `ttft` go by prompt length only; those of `tpot` may
use both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge.logspace import exp, log_mean
from sluice.judge.process import Design, MarginProcess, RegressionProcess
from sluice.judge.regression import LATENCY
from sluice.judge.tally import Tallies
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, against, outcome_of, points
from sluice.judge.windows import Arms, InvalidEvidence, LatencyWindow


@dataclass(frozen=True)
class Metric:
    """What was seen of one metric so far."""

    regression: RegressionProcess = field(default_factory=RegressionProcess)
    non_inferiority: MarginProcess = field(default_factory=MarginProcess)
    tallies: Tallies = field(default_factory=Tallies)

    def observe(self, design: Design, step: int, strata: Mapping[str, Arms]) -> Self:
        return type(self)(
            self.regression.observe(design, step, strata),
            self.non_inferiority.observe(design, step, strata),
            self.tallies.plus(step, *strata.values()),
        )


NOTHING_SEEN = Metric()


@dataclass(frozen=True)
class LatencyGate:
    """Configuration and what was seen so far.

    `strata`: metric → names of its strata, all of them, before the first window. `ceiling`: share of slow requests
    allowed where there is nothing to compare with (a first release, and the soak, in which load hides differences
    between arms of unequal size). `steps`: the ladder's length; 0 in an examination, which has no later start.
    Regression is the average of the metrics' e-values; non-inferiority is required of each metric.
    """

    strata: Mapping[str, tuple[str, ...]]
    margin: float
    ceiling: float
    steps: int
    max_ratio: float = 1.0
    kappa: float = 1.0
    kappa_promote: float = 1.0
    alpha_regression: float = 0.002
    alpha_promote: float = 0.05
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    log_e_regression: float = 0.0

    def __post_init__(self) -> None:
        if not self.strata:
            raise InvalidGate("latency.strata: names no metric; give at least one of ttft, tpot, e2e")
        if not self.metrics:
            for name in self.strata:
                self.design(name).check(f"latency.{name}")

    def design(self, metric: str) -> Design:
        """Return what is asked about one metric."""
        return Design(
            alternatives=LATENCY,
            max_ratio=self.max_ratio,
            margin=self.margin,
            ceiling=self.ceiling,
            kappa=self.kappa,
            kappa_promote=self.kappa_promote,
            steps=self.steps,
            strata=self.strata[metric],
        )

    def observe(self, window: LatencyWindow) -> Self:
        """Return the gate after one window.

        Raises:
            InvalidEvidence: the window has a metric or a stratum that `strata` does not name.
        """
        unknown = sorted(set(window.metrics) - set(self.strata))
        if unknown:
            raise InvalidEvidence(f"metric {unknown[0]!r} is none of {', '.join(self.strata)}; announce it in the gate")
        metrics, log_e = {}, []
        for name in self.strata:
            design = self.design(name)
            metrics[name] = self._metric(name).observe(design, window.step, window.metrics.get(name, {}))
            log_e.append(metrics[name].regression.log_e(design))
        return replace(self, metrics=metrics, log_e_regression=max(self.log_e_regression, log_mean(log_e)))

    def _metric(self, name: str) -> Metric:
        return self.metrics.get(name, NOTHING_SEEN)

    def _log_e_by_metric(self) -> list[float]:
        return [self._metric(name).regression.log_e(self.design(name)) for name in self.strata]

    def verdict(self) -> Verdict:
        """Return what the evidence says now."""
        e_regression, limit = exp(self.log_e_regression), 1.0 / self.alpha_regression
        metrics = {name: self._metric(name) for name in self.strata}
        shown = {name: exp(metric.non_inferiority.log_e()) for name, metric in metrics.items()}
        outcome = outcome_of(
            any_data=any(metric.tallies.this_step.complete for metric in metrics.values()),
            regression=e_regression >= limit,
            non_inferior=min(shown.values()) >= 1.0 / self.alpha_promote,
        )
        numbers = {"e_regression": e_regression, "e_regression_limit": limit}
        for name, value in shown.items():
            numbers[f"{name}_e_non_inferior"] = value
        numbers["e_non_inferior_limit"] = 1.0 / self.alpha_promote
        for name, metric in metrics.items():
            numbers.update(metric.tallies.this_step.numbers(f"step_{name}_"))
            numbers.update(metric.tallies.release.numbers(f"{name}_"))
        return Verdict("latency", outcome, f"latency: {self._sentence(outcome, shown)}", numbers)

    def _sentence(self, outcome: Outcome, shown: Mapping[str, float]) -> str:
        if outcome is Outcome.no_data:
            tally = self._metric(next(iter(self.strata))).tallies.this_step
            return f"{tally.text('slow', self.ceiling)}: nothing to judge by at this step"
        if outcome is Outcome.regression:
            by_metric = dict(zip(self.strata, self._log_e_by_metric(), strict=True))
            worst = max(by_metric, key=lambda name: by_metric[name])
            text = self._metric(worst).tallies.text("slow", self.ceiling)
            return f"{worst}: {text}; {against(exp(self.log_e_regression), 1.0 / self.alpha_regression)}"
        weakest = min(shown, key=lambda name: shown[name])
        tally = self._metric(weakest).tallies.this_step
        claim = f"at most {points(self.margin)} more" if tally.compared else "fewer than allowed"
        evidence = against(shown[weakest], 1.0 / self.alpha_promote)
        return f"{weakest}: {tally.text('slow', self.ceiling)}; {claim}: {evidence}"
