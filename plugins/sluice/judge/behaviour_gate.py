"""The behaviour gate: are the canary's answers odd more often than stable's, whether they are right or not?

Each kind of oddness (empty, repeated, truncated …) is a counted event with its own e-process, F1 over a mixture of
starts; the gate's e-value is their average, so one error rate covers them all. The same gate serves users' answers,
window by window, and the examination, where each pair of answers to one prompt is a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sluice.judge.carry import Carried
from sluice.judge.logspace import exp, log_mean
from sluice.judge.regression import BEHAVIOUR, compared
from sluice.judge.starts import StartMixture
from sluice.judge.tally import Tally
from sluice.judge.verdict import InvalidGate, Outcome, Verdict, against
from sluice.judge.windows import Arm, Arms, BehaviourWindow, InvalidEvidence


@dataclass(frozen=True)
class Event:
    """What was seen of one kind of event so far; `log_e` is its e-value now."""

    mixture: StartMixture = field(default_factory=StartMixture)
    log_e: float = 0.0
    tally: Tally = field(default_factory=Tally)


NOTHING_SEEN = Event()


@dataclass(frozen=True)
class BehaviourGate:
    """Configuration and what was seen so far.

    `events`: all that are counted, before the first window; name only those that both versions count, since an event
    which a window does not mention did not happen. `steps`: the ladder's length; 0 in an examination, which has no
    later start. `kappa`: burst factor, `Dispersion.kappa`. There is no non-inferiority: without a regression
    the gate is inconclusive, and without a stable version nothing is asked.
    """

    events: tuple[str, ...]
    steps: int
    max_ratio: float = 1.0
    kappa: float = 1.0
    alpha_regression: float = 0.00025
    seen: Mapping[str, Event] = field(default_factory=dict)
    carried: Carried = field(default_factory=Carried)
    log_e_regression: float = 0.0

    def __post_init__(self) -> None:
        if not self.events:
            raise InvalidGate("behaviour.events: names none; give at least one, or leave the gate out")
        for name, value, least in (
            ("max_ratio", self.max_ratio, 1),
            ("kappa", self.kappa, 1),
            ("steps", self.steps, 0),
        ):
            if value < least:
                raise InvalidGate(f"behaviour.{name}: {value} must be at least {least}")

    def observe(self, window: BehaviourWindow) -> Self:
        """Return the gate after one window.

        Raises:
            InvalidEvidence: the window has an event that `events` does not name.
        """
        arms = self._arms(window)
        carried, complete = self.carried.take(window.step, self.events, arms)
        seen = {name: self._event(name, window.step, one, complete.get(name)) for name, one in arms.items()}
        log_e = log_mean([event.log_e for event in seen.values()])
        return replace(self, seen=seen, carried=carried, log_e_regression=max(self.log_e_regression, log_e))

    def _arms(self, window: BehaviourWindow) -> dict[str, Arms]:
        canary, stable = window.canary, window.stable
        mentioned = set(canary.events) | set(stable.events if stable else ())
        unknown = sorted(mentioned.difference(self.events))
        if unknown:
            raise InvalidEvidence(f"event {unknown[0]!r} is none of {', '.join(self.events)}; announce it in the gate")
        return {
            name: Arms(
                Arm(canary.completed, canary.events.get(name, 0)),
                Arm(stable.completed, stable.events.get(name, 0)) if stable else None,
            )
            for name in self.events
        }

    def _event(self, name: str, step: int, arms: Arms, complete: Arms | None) -> Event:
        before = self.seen.get(name, NOTHING_SEEN)
        tally = before.tally.plus(arms)
        if complete is None or complete.stable is None:
            return Event(before.mixture, before.log_e, tally)
        increments = compared([(complete.canary, complete.stable)], BEHAVIOUR, self.max_ratio, self.kappa)
        mixture = before.mixture.advance(step, increments, self.steps)
        log_e = before.log_e if mixture is before.mixture else mixture.log_e(BEHAVIOUR)
        return Event(mixture, log_e, tally)

    def verdict(self) -> Verdict:
        """Return what the evidence says now: regression, inconclusive or no_data."""
        e, limit = exp(self.log_e_regression), 1.0 / self.alpha_regression
        worst = self._worst()
        tally = self.seen[worst].tally if self.seen else Tally()
        outcome = Outcome.inconclusive if tally.complete else Outcome.no_data
        numbers = {"e_regression": e, "e_regression_limit": limit, "canary_completed": float(tally.canary.requests)}
        if tally.compared:
            numbers["stable_completed"] = float(tally.stable.requests)
        for name, event in self.seen.items():
            numbers[f"{name}_canary"] = float(event.tally.canary.bad)
            if tally.compared:
                numbers[f"{name}_stable"] = float(event.tally.stable.bad)
        outcome = Outcome.regression if e >= limit else outcome
        return Verdict("behaviour", outcome, f"behaviour: {self._sentence(outcome, worst, tally)}", numbers)

    def _worst(self) -> str:
        """Return the event with the largest e-value; of equals the one that the canary showed most."""
        seen = self.seen
        return max(self.events, key=lambda name: _rank(seen.get(name, NOTHING_SEEN)))

    def _sentence(self, outcome: Outcome, worst: str, tally: Tally) -> str:
        counts = f"{worst} {tally.canary.bad} of {tally.canary.requests} answers"
        if not tally.compared:
            return f"{counts}; {'nothing to compare with' if tally.canary.requests else 'nothing to judge by'}"
        counts = f"{counts}, stable {tally.stable.bad} of {tally.stable.requests}"
        if outcome is Outcome.no_data:
            return f"{counts}: nothing to judge by"
        return f"{counts}; {against(exp(self.log_e_regression), 1.0 / self.alpha_regression)}"


def _rank(event: Event) -> tuple[float, int]:
    return round(event.log_e, 9), event.tally.canary.bad
