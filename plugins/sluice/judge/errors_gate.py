"""The errors gate: does the canary fail requests more often than stable, or more than the policy ever allows?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge import bursts
from sluice.judge.excess import ExcessProcess
from sluice.judge.floor import FloorProcess
from sluice.judge.logspace import exp
from sluice.judge.process import ONE_STRATUM, Design, MarginProcess, RegressionProcess
from sluice.judge.regression import ERRORS
from sluice.judge.tally import Tallies, Tally
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, against, outcome_of, percent, points
from sluice.judge.windows import Window

STRATUM = ONE_STRATUM[0]


@dataclass(frozen=True)
class ErrorsGate:
    """Configuration and what was seen so far.

    `floor`: success rate that a canary must never fall below while stable keeps it; where there is no stable version
    (a first release, a soak without holdback) it decides alone. `steps`: the ladder's length. The alphas' defaults
    are those of `AlphaSplit`; the burst factors' are for unmeasured traffic. `min_excess`: a larger ratio is a
    regression only if the canary's rate is also shown, at `alpha_promote`, to be more than so much above stable's; a
    canary that is no worse stays protected by `alpha_regression`, as the ratio must be shown as well. The floor needs
    no excess.
    Regression, once shown, stays; non-inferiority is what the current step's evidence shows now.
    """

    max_ratio: float
    margin: float
    floor: float
    steps: int
    kappa: float = bursts.NOT_MEASURED.kappa_errors
    kappa_promote: float = bursts.NOT_MEASURED.kappa
    alpha_regression: float = 0.0045
    alpha_floor: float = 0.0005
    alpha_promote: float = 0.05
    min_excess: float | None = None
    regression: RegressionProcess = field(default_factory=RegressionProcess)
    excess: ExcessProcess = field(default_factory=ExcessProcess)
    floor_process: FloorProcess = field(default_factory=FloorProcess)
    non_inferiority: MarginProcess = field(default_factory=MarginProcess)
    attempts: Tallies = field(default_factory=Tallies)
    users: Tallies = field(default_factory=Tallies)
    log_e_regression: float = 0.0
    log_e_excess: float = 0.0
    log_e_floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.floor < 1.0:
            raise InvalidGate(f"errors.floor: {self.floor} (a success rate) must lie between 0 and 1")
        if self.min_excess is not None and not 0.0 < self.min_excess < 1.0:
            raise InvalidGate(f"errors.min_excess: {self.min_excess} must lie between 0 and 1; leave it out for none")
        if self.attempts.step < 0:  # before the first window: a gate that observed one was checked
            self.design.check("errors")

    @property
    def design(self) -> Design:
        return Design(
            alternatives=ERRORS,
            max_ratio=self.max_ratio,
            margin=self.margin,
            ceiling=1.0 - self.floor,
            kappa=self.kappa,
            kappa_promote=self.kappa_promote,
            steps=self.steps,
        )

    def observe(self, window: Window) -> Self:
        """Return the gate after one window."""
        design, step, users = self.design, window.step, window.users or window.attempts
        regression = self.regression.observe(design, step, {STRATUM: window.attempts})
        floor_process = self.floor_process.observe(design, step, window.attempts)
        excess = self.excess
        if self.min_excess is not None:
            excess = excess.observe(design, self.min_excess, step, window.attempts)
        return replace(
            self,
            regression=regression,
            excess=excess,
            floor_process=floor_process,
            non_inferiority=self.non_inferiority.observe(design, step, {STRATUM: users}),
            attempts=self.attempts.plus(step, window.attempts),
            users=self.users.plus(step, users),
            log_e_regression=max(self.log_e_regression, regression.log_e(design)),
            log_e_excess=max(self.log_e_excess, excess.log_e()),
            log_e_floor=max(self.log_e_floor, floor_process.log_e(design)),
        )

    def verdict(self) -> Verdict:
        """Return what the evidence says now."""
        e = self._e_values()
        worse = e["e_regression"] >= e["e_regression_limit"]
        if self.min_excess is not None:
            worse = worse and e["e_excess"] >= e["e_excess_limit"]
        under = e["e_floor"] >= e["e_floor_limit"]
        outcome = outcome_of(
            any_data=self.users.this_step.complete,
            regression=worse or under,
            non_inferior=e["e_non_inferior"] >= e["e_non_inferior_limit"],
        )
        numbers = (
            {"step": float(self.attempts.step)}
            | self.attempts.release.numbers()
            | self.users.this_step.numbers("step_")
            | e
        )
        return Verdict("errors", outcome, f"errors: {self._sentence(outcome, worse, e)}", numbers)

    def _e_values(self) -> dict[str, float]:
        excess = {"e_excess": exp(self.log_e_excess), "e_excess_limit": 1.0 / self.alpha_promote}
        return {
            "e_regression": exp(self.log_e_regression),
            "e_regression_limit": 1.0 / self.alpha_regression,
            **({} if self.min_excess is None else excess),
            "e_floor": exp(self.log_e_floor),
            "e_floor_limit": 1.0 / self.alpha_floor,
            "e_non_inferior": exp(self.non_inferiority.log_e()),
            "e_non_inferior_limit": 1.0 / self.alpha_promote,
        }

    def _sentence(self, outcome: Outcome, worse: bool, e: dict[str, float]) -> str:
        ceiling = 1.0 - self.floor
        if outcome is Outcome.no_data:
            return f"{self.users.this_step.text('bad', ceiling)}: nothing to judge by at this step"
        if outcome is Outcome.regression and worse:
            evidence = against(e["e_regression"], e["e_regression_limit"])
            if self.min_excess is not None:
                evidence += f"; more than {points(self.min_excess)} more: {against(e['e_excess'], e['e_excess_limit'])}"
            return f"{self.attempts.text('bad', ceiling)}; {evidence}"
        if outcome is Outcome.regression:
            evidence = against(e["e_floor"], e["e_floor_limit"])
            return f"{self.attempts.text('bad', ceiling)}: below the floor of {percent(self.floor)}; {evidence}"
        evidence = against(e["e_non_inferior"], e["e_non_inferior_limit"])
        return f"{self.users.this_step.text('bad', ceiling)}; {_claim(self.users.this_step, self.margin)}: {evidence}"


def _claim(tally: Tally, margin: float) -> str:
    return f"at most {points(margin)} more" if tally.compared else "fewer than allowed"
