"""What a look at the evidence means for a step: hold, advance, or roll back. Pure.

A step advances when its hold has passed since the observed share agreed, its sample floor is met, no gate says
`regression`, the data are fresh, and, at the last step, every required gate says `non_inferior`. Inconclusive never
ships: it holds up to `max_hold`, then rolls back. Each hold names what it waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sluice.engine.freshness import FRESH, Data, DataState
from sluice.judge import Outcome, Verdict
from sluice.policy import ReleasePolicy

NOTHING_TO_COMPARE = "nothing to compare: a first release has no stable version, its examination decided by the floors"
REQUIRED = frozenset({"errors", "latency"})
"""Gates that must say `non_inferior` at the last step; the others can only object."""


class Action(StrEnum):
    HOLD = "hold"
    ADVANCE = "advance"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True)
class Decision:
    action: Action
    sentence: str
    """Why; for `hold`: what is waited for."""


@dataclass(frozen=True)
class Look:
    """All that a decision rests on, at one moment of one step."""

    step: int
    """Index in the ladder; its length means the soak."""
    step_seconds: float
    """Since the step's weight was written."""
    agreed_seconds: float | None
    """Since the observed share agreed with the weight; None if it does not yet."""
    canary_requests: int
    """Requests that the canary answered at this step."""
    share: Verdict | None
    """None where no share is to be shown (first release, soak)."""
    verdicts: Sequence[Verdict]
    data: DataState = FRESH
    first: bool = False
    """A model's first release: there is no stable version to compare with."""
    drift: str = ""
    lost: str = ""
    """Why the canary cannot serve (no ready pod); "" when it can."""


def decide(policy: ReleasePolicy, look: Look) -> Decision:
    """The decision, and one sentence with its numbers."""
    against = _reason_to_roll_back(policy, look)
    if against:
        return Decision(Action.ROLL_BACK, against)
    if look.first and not _soaking(policy, look):
        return Decision(Action.ADVANCE, NOTHING_TO_COMPARE)
    missing = _waits_for(policy, look)
    if not missing:
        return Decision(Action.ADVANCE, "; ".join(verdict.sentence for verdict in look.verdicts))
    longest = policy.max_hold.total_seconds() + (policy.soak.total_seconds() if _soaking(policy, look) else 0)
    if look.step_seconds >= longest:
        return Decision(Action.ROLL_BACK, f"no verdict within max_hold ({policy.max_hold}): {missing}")
    return Decision(Action.HOLD, missing)


def _soaking(policy: ReleasePolicy, look: Look) -> bool:
    return look.step == len(policy.steps)


def _reason_to_roll_back(policy: ReleasePolicy, look: Look) -> str:
    if look.lost:
        return look.lost
    for verdict in look.verdicts:
        if verdict.outcome is Outcome.regression:
            return verdict.sentence
    return _out_of_patience(policy, look.data)


def _out_of_patience(policy: ReleasePolicy, data: DataState) -> str:
    if data.kind is Data.FRESH:
        return ""
    patience = data.patience(policy)
    if patience.then == "hold" or data.seconds <= patience.after.total_seconds():
        return ""
    return f"{data.sentence}, since {data.seconds:.0f} s (data.{data.kind.value})"


def _waits_for(policy: ReleasePolicy, look: Look) -> str:
    """The first thing that is not there yet; "" if the step may end."""
    if look.drift:
        return look.drift
    if look.data.kind is not Data.FRESH and not (look.data.kind is Data.SPARSE and _soaking(policy, look)):
        return f"no data: {look.data.sentence}"
    if _soaking(policy, look):
        left = policy.soak.total_seconds() - look.step_seconds
        return f"the soak ends in {left:.0f} s" if left > 0 else ""
    if look.agreed_seconds is None:
        return f"the observed share must agree: {look.share.sentence if look.share else 'no request was seen'}"
    return _step_waits_for(policy, look, look.agreed_seconds)


def _step_waits_for(policy: ReleasePolicy, look: Look, agreed_seconds: float) -> str:
    step = policy.steps[look.step]
    if agreed_seconds < step.hold.total_seconds():
        return f"the hold ends in {step.hold.total_seconds() - agreed_seconds:.0f} s"
    if look.canary_requests < step.requests:
        return f"{look.canary_requests} of {step.requests} requests that the canary must answer"
    if look.step == len(policy.steps) - 1:
        for verdict in look.verdicts:
            if verdict.gate in REQUIRED and verdict.outcome is not Outcome.non_inferior:
                return f"the last step needs non_inferior: {verdict.sentence}"
    return ""
