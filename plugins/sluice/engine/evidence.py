"""The evidence of a release as a fold over its ledger entries: the same entries give the same verdicts, always.

Counters arrive as absolute totals by version, so that nothing is lost between two looks, however far apart: the next
look covers what a dead triggerer missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from sluice.engine.decision import Decision, Look
from sluice.engine.windows import difference, from_record, to_record
from sluice.judge import (
    NOT_MEASURED,
    AlphaSplit,
    Arm,
    Arms,
    ErrorsGate,
    InvalidEvidence,
    LatencyGate,
    LatencyWindow,
    QualityGate,
    ShareGate,
    StartedWindow,
    Verdict,
    Window,
)
from sluice.policy import ReleasePolicy
from sluice.ports import Entry, Timing, Totals
from sluice.release import Record

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
    latency: LatencyGate | None = None
    """Made at the first look, which says what length classes there are."""
    share: ShareGate | None = None
    last: Mapping[str, Totals] | None = None
    step: int = -1
    weight: int = 0
    stepped_at: datetime | None = None
    agreed_at: datetime | None = None
    silent_since: datetime | None = None
    answered: int = 0
    """Requests that users got from the canary at this step."""

    @classmethod
    def fold(cls, policy: ReleasePolicy, record: Record, entries: Iterable[Entry]) -> Self:
        """The evidence in a release's entries."""
        evidence = cls(policy, record.canary, None if record.first else record.last_good, errors_gate(policy))
        for entry in entries:
            if entry.kind == "shifted":
                evidence = evidence.enter(entry.data["step"], entry.data["weights"], entry.at)
            elif entry.kind == "window":
                with suppress(InvalidEvidence):  # a shift notes what it reads unjudged; the next window covers it
                    evidence = evidence.observe(entry.data, entry.at)
        return evidence

    def enter(self, step: int, weights: Mapping[str, int], at: datetime) -> Self:
        """A step's weight was written."""
        weight = weights.get(self.canary, 0)
        share = ShareGate(self.weight, weight) if self.stable is not None and weight != self.weight else self.share
        return replace(
            self, step=step, weight=weight, share=share, stepped_at=at, agreed_at=None, silent_since=None, answered=0
        )

    def observe(self, window: Mapping[str, Any], at: datetime) -> Self:
        """A look at the counters; the first one is only where counting starts."""
        totals = {version: from_record(counters) for version, counters in window["totals"].items()}
        if self.last is None:
            return replace(self, last=totals, latency=latency_gate(self.policy, totals))
        step = window["step"]
        increase = {version: difference(self.last.get(version), counters) for version, counters in totals.items()}
        seen = replace(self, last={**self.last, **totals})
        if step < 0:
            return seen
        canary = increase.get(self.canary, Totals())
        stable = None if self.stable is None else increase.get(self.stable, Totals())
        missing = self.canary not in totals and bool(stable and stable.started)
        return seen._judge(step, canary, stable)._share(step, canary, stable, at if missing else None, at)

    def _judge(self, step: int, canary: Totals, stable: Totals | None) -> Self:
        soaking = step == len(self.policy.steps)
        assert self.latency is not None
        return replace(
            self,
            errors=self.errors.observe(_window(step, canary, stable)),
            latency=self.latency.observe(_latency_window(step, canary, None if soaking else stable, self.latency)),
            answered=self.answered + canary.answered if step == self.step else self.answered,
        )

    def _share(self, step: int, canary: Totals, stable: Totals | None, silent: datetime | None, at: datetime) -> Self:
        if stable is None or self.share is None or step != self.step:
            return self
        share = self.share.observe(StartedWindow(canary.started, stable.started))
        agreed_at = (self.agreed_at or at) if share.agrees else None
        return replace(self, share=share, agreed_at=agreed_at, silent_since=silent and (self.silent_since or silent))

    @property
    def verdicts(self) -> Sequence[Verdict]:
        return [self.errors.verdict()] + ([self.latency.verdict()] if self.latency else [])

    def look(self, step: int, now: datetime, *, unreachable: str, drift: str, lost: str) -> Look:
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
            silent_seconds=_seconds(self.silent_since, now) or 0.0,
            unreachable=unreachable,
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
            "verdicts": [verdict.to_record() for verdict in look.verdicts],
            "action": decision.action.value,
            "sentence": decision.sentence,
        }


# --- gates from the policy -------------------------------------------------------------------------------------------


def quality_gate(policy: ReleasePolicy, categories: Iterable[str]) -> QualityGate:
    quality, alpha = policy.gates.quality, _alpha(policy)
    return QualityGate(
        margin=quality.margin,
        floor=quality.floor,
        categories=tuple(sorted(set(categories))),
        alpha_regression=alpha.quality,
        alpha_category=alpha.category,
        alpha_promote=alpha.promote,
    )


def errors_gate(policy: ReleasePolicy) -> ErrorsGate:
    errors, alpha = policy.gates.errors, _alpha(policy)
    return ErrorsGate(
        max_ratio=errors.max_ratio,
        margin=errors.margin,
        floor=errors.floor,
        steps=len(policy.steps),
        alpha_regression=alpha.errors,
        alpha_floor=alpha.floor,
        alpha_promote=alpha.promote,
    )


def latency_gate(policy: ReleasePolicy, totals: Mapping[str, Totals]) -> LatencyGate:
    """The gate for the length classes that the servers announce in their first counters."""
    latency, alpha = policy.gates.latency, _alpha(policy)
    strata = {
        metric: (*sorted({name for counters in totals.values() for name in counters.timings.get(metric, {})}), OTHER)
        for metric in latency.limits_seconds
    }
    return LatencyGate(
        strata=strata,
        margin=latency.margin,
        ceiling=latency.ceiling,
        steps=len(policy.steps),
        kappa_promote=NOT_MEASURED.kappa_promote,
        alpha_regression=alpha.latency,
        alpha_promote=alpha.promote,
    )


def _alpha(policy: ReleasePolicy) -> AlphaSplit:
    return AlphaSplit(rollback=policy.alpha.rollback, promote=policy.alpha.promote)


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


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()
