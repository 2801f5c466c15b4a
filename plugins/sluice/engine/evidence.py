"""The evidence of a release as a fold over its ledger entries: the same entries give the same verdicts, always.

Counters arrive as absolute totals by version, so that nothing is lost between two looks, however far apart: the next
look covers what a dead triggerer missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from sluice.engine.decision import Decision, Look
from sluice.engine.freshness import Freshness
from sluice.engine.gates import UNMEASURED, Calibration, behaviour_gate, errors_gate, latency_gate
from sluice.engine.windows import difference, from_record, to_record
from sluice.judge import (
    Answers,
    Arm,
    Arms,
    BehaviourGate,
    BehaviourWindow,
    ErrorsGate,
    InvalidEvidence,
    LatencyGate,
    LatencyWindow,
    ShareGate,
    StartedWindow,
    Verdict,
    Window,
)
from sluice.policy import ReleasePolicy
from sluice.ports import Entry, Timing, Totals

OTHER = "other"
"""Stratum of requests whose length class the servers had not announced when the release first looked."""


def window_record(step: int, totals: Mapping[str, Totals]) -> dict[str, Any]:
    """A look's raw counters as a ledger entry's data; `step` is the one that the time before the look belongs to."""
    return {"step": step, "totals": {version: to_record(counters) for version, counters in totals.items()}}


@dataclass(frozen=True)
class Evidence:
    """What was seen of a release so far."""

    policy: ReleasePolicy
    canary: str
    stable: str | None
    errors: ErrorsGate
    calibration: Calibration = UNMEASURED
    latency: LatencyGate | None = None
    """Made at the first look, which says what length classes there are."""
    behaviour: BehaviourGate | None = None
    """Made at the first look, which says what the servers count."""
    share: ShareGate | None = None
    last: Mapping[str, Totals] | None = None
    freshness: Freshness = field(default_factory=Freshness)
    step: int = -1
    weight: int = 0
    stepped_at: datetime | None = None
    agreed_at: datetime | None = None
    answered: int = 0
    """Requests that users got from the canary at this step."""

    @classmethod
    def of(cls, policy: ReleasePolicy, canary: str, stable: str | None) -> Self:
        """Nothing seen yet; `stable` is None for a model's first release."""
        return cls(policy, canary, stable, errors_gate(policy, UNMEASURED))

    def fold(self, entries: Iterable[Entry]) -> Self:
        """The evidence with a release's entries."""
        evidence = self
        for entry in entries:
            evidence = evidence.take(entry)
        return evidence

    def take(self, entry: Entry) -> Self:
        """The evidence with one entry; those of other kinds say nothing here."""
        if entry.kind == "calibrated":
            return self.calibrated(Calibration.from_record(entry.data))
        if entry.kind == "shifted":
            return self.enter(entry.data["step"], entry.data["weights"], entry.at)
        if entry.kind == "window":
            with suppress(InvalidEvidence):  # what cannot be is not judged; the next window covers it
                return self.observe(entry.data, entry.at)
        return self

    def calibrated(self, calibration: Calibration) -> Self:
        """Burst factors as measured before the first window; later ones would change what was judged."""
        if self.last is not None:
            return self
        return replace(self, calibration=calibration, errors=errors_gate(self.policy, calibration))

    def enter(self, step: int, weights: Mapping[str, int], at: datetime) -> Self:
        """A step's weight was written."""
        weight = weights.get(self.canary, 0)
        share = ShareGate(self.weight, weight) if self.stable is not None and weight != self.weight else self.share
        return replace(
            self,
            step=step,
            weight=weight,
            share=share,
            stepped_at=at,
            agreed_at=None,
            freshness=Freshness(since=at),
            answered=0,
        )

    def observe(self, window: Mapping[str, Any], at: datetime) -> Self:
        """A look at the counters; the first one is only where counting starts. Raises InvalidEvidence."""
        totals = {version: from_record(counters) for version, counters in window["totals"].items()}
        for version, counters in totals.items():
            _check(version, counters)
        if self.last is None:
            return self._open(totals)
        step = window["step"]
        increase = {version: difference(self.last.get(version), counters) for version, counters in totals.items()}
        seen = replace(self, last={**self.last, **totals})
        if step < 0:
            return seen
        stable = None if self.stable is None else increase.get(self.stable, Totals())
        return seen._judge(step, increase.get(self.canary, Totals()), stable)._data(
            step, increase.get(self.canary), stable, at
        )

    def _open(self, totals: Mapping[str, Totals]) -> Self:
        # An event that only the canary's servers count would look like one that only the canary shows.
        counted = totals.get(self.stable or self.canary, Totals()).behaviour
        behaviour = behaviour_gate(self.policy, counted, self.calibration)
        return replace(
            self,
            last=totals,
            latency=latency_gate(self.policy, _strata(self.policy, totals), self.calibration),
            behaviour=behaviour,
        )

    def _judge(self, step: int, canary: Totals, stable: Totals | None) -> Self:
        soaking = step == len(self.policy.steps)
        assert self.latency is not None
        return replace(
            self,
            errors=self.errors.observe(_window(step, canary, stable)),
            latency=self.latency.observe(_latency_window(step, canary, None if soaking else stable, self.latency)),
            behaviour=self.behaviour and self.behaviour.observe(_behaviour(step, canary, stable, self.behaviour)),
            answered=self.answered + canary.answered if step == self.step else self.answered,
        )

    def _data(self, step: int, canary: Totals | None, stable: Totals | None, at: datetime) -> Self:
        """What the window says of the data themselves: are they there, and is the traffic split as it was written."""
        if step != self.step:
            return self
        fresh = replace(self, freshness=self.freshness.observe(at, canary, stable))
        if stable is None or self.share is None:
            return fresh
        share = self.share.observe(StartedWindow(canary.started if canary else 0, stable.started))
        return replace(fresh, share=share, agreed_at=(self.agreed_at or at) if share.agrees else None)

    @property
    def verdicts(self) -> Sequence[Verdict]:
        gates = (self.errors, self.latency, self.behaviour)
        return [gate.verdict() for gate in gates if gate is not None]

    def look(
        self,
        step: int,
        now: datetime,
        *,
        unreachable: str = "",
        contradiction: str = "",
        drift: str = "",
        lost: str = "",
    ) -> Look:
        """What a decision at `now` rests on."""
        soaking = step == len(self.policy.steps)
        compared = self.share is not None and self.stable is not None and not soaking
        return Look(
            step=step,
            step_seconds=_seconds(self.stepped_at, now) or 0.0,
            agreed_seconds=_seconds(self.agreed_at, now),
            canary_requests=self.answered,
            share=self.share.verdict() if self.share and compared else None,
            first=self.stable is None,
            verdicts=self.verdicts,
            data=self.freshness.state(self.policy, now, unreachable, contradiction),
            drift=drift,
            lost=lost,
        )

    def to_record(self, look: Look, decision: Decision) -> dict[str, Any]:
        """The look that decided, for the ledger: everything that can be shown without folding again."""
        return {
            "step": look.step,
            "weight": self.weight,
            "seconds": look.step_seconds,
            "canary_requests": look.canary_requests,
            "share": look.share.to_record() if look.share else None,
            "data": {"kind": look.data.kind.value, "seconds": look.data.seconds, "sentence": look.data.sentence},
            "verdicts": [verdict.to_record() for verdict in look.verdicts],
            "action": decision.action.value,
            "sentence": decision.sentence,
        }


def _check(version: str, totals: Totals) -> None:
    """Raises InvalidEvidence for counters that contradict themselves, as sources read at different moments may."""
    for name, count, bad in (
        ("answers", totals.answered, totals.failed),
        ("attempts", totals.attempts, totals.attempts_failed),
    ):
        if bad > count:
            raise InvalidEvidence(f"version {version}: {bad} failed of {count} {name} cannot be; look at the metrics")


def _strata(policy: ReleasePolicy, totals: Mapping[str, Totals]) -> dict[str, tuple[str, ...]]:
    """The length classes that the servers announce in their first counters."""
    return {
        metric: (*sorted({name for counters in totals.values() for name in counters.timings.get(metric, {})}), OTHER)
        for metric in policy.gates.latency.limits_seconds
    }


# --- windows from counters -------------------------------------------------------------------------------------------


def _window(step: int, canary: Totals, stable: Totals | None) -> Window:
    attempts = Arm(canary.attempts, canary.attempts_failed)
    users = Arm(canary.answered, canary.failed)
    if stable is None:
        return Window(step, attempts, None, Arms(users, None))
    compared = Arms(users, Arm(stable.answered, stable.failed))
    return Window(step, attempts, Arm(stable.attempts, stable.attempts_failed), compared)


def _latency_window(step: int, canary: Totals, stable: Totals | None, gate: LatencyGate) -> LatencyWindow:
    metrics: dict[str, dict[str, Arms]] = {}
    for metric, announced in gate.strata.items():
        ours = _by_stratum(canary, metric, announced)
        theirs = None if stable is None else _by_stratum(stable, metric, announced)
        metrics[metric] = {name: Arms(ours[name], theirs[name] if theirs else None) for name in announced}
    return LatencyWindow(step, metrics)


def _by_stratum(totals: Totals, metric: str, announced: Sequence[str]) -> dict[str, Arm]:
    arms = dict.fromkeys(announced, Arm(0, 0))
    for stratum, timing in totals.timings.get(metric, {}).items():
        name = stratum if stratum in arms else OTHER
        arms[name] = arms[name] + _arm(timing)
    return arms


def _arm(timing: Timing) -> Arm:
    return Arm(timing.requests, timing.slow)


def _behaviour(step: int, canary: Totals, stable: Totals | None, gate: BehaviourGate) -> BehaviourWindow:
    return BehaviourWindow(step, _answers(canary, gate), _answers(stable, gate) if stable else None)


def _answers(totals: Totals, gate: BehaviourGate) -> Answers:
    return Answers(totals.completed, {event: totals.behaviour.get(event, 0) for event in gate.events})


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()
