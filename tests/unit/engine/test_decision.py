"""What a look means for a step: every reason to hold, to advance, to roll back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.engine.decision import Action, Look, decide
from sluice.judge import Outcome, Verdict
from tests.unit.engine.dag_run import a_policy

POLICY = a_policy()  # two steps with 10 s and 20 requests each; max_hold 5m, soak 20s, no_data 20s
SOAK = 2


def verdict(outcome: Outcome, gate: str = "errors") -> Verdict:
    return Verdict(gate, outcome, f"{gate}: {outcome}", {})


GOOD = Look(
    step=1,
    step_seconds=30.0,
    agreed_seconds=20.0,
    canary_requests=100,
    share=verdict(Outcome.non_inferior, "share"),
    verdicts=[verdict(Outcome.non_inferior), verdict(Outcome.non_inferior, "latency")],
    silent_seconds=0.0,
)
FIRST = replace(GOOD, step=0)
SOAKED = replace(GOOD, step=SOAK, step_seconds=20.0, share=None, agreed_seconds=None)


@pytest.mark.parametrize("look", [GOOD, FIRST, SOAKED], ids=["last step", "first step", "soak"])
def test_a_step_advances_when_all_holds(look: Look) -> None:
    assert decide(POLICY, look).action is Action.ADVANCE


HOLDS = {
    "share not shown": (replace(GOOD, agreed_seconds=None), "the observed share must agree"),
    "hold not over": (replace(GOOD, agreed_seconds=9.0), "the hold ends in 1 s"),
    "too few requests": (replace(GOOD, canary_requests=19), "19 of 20 requests"),
    "metrics away": (replace(GOOD, unreachable="curl it"), "no data: curl it"),
    "drift": (replace(GOOD, drift="somebody edited"), "somebody edited"),
    "canary silent": (replace(GOOD, silent_seconds=5.0), "the canary's series are missing"),
    "soak not over": (replace(SOAKED, step_seconds=15.0), "the soak ends in 5 s"),
    "metrics away in the soak": (replace(SOAKED, unreachable="curl it"), "no data: curl it"),
}


@pytest.mark.parametrize(("look", "sentence"), HOLDS.values(), ids=HOLDS)
def test_a_step_holds_and_says_what_for(look: Look, sentence: str) -> None:
    decision = decide(POLICY, look)
    assert decision.action is Action.HOLD
    assert sentence in decision.sentence


@pytest.mark.parametrize("outcome", [Outcome.inconclusive, Outcome.no_data])
@pytest.mark.parametrize("gate", [0, 1])
def test_only_the_last_step_needs_every_gate(outcome: Outcome, gate: int) -> None:
    verdicts = [verdict(Outcome.non_inferior), verdict(Outcome.non_inferior)]
    verdicts[gate] = verdict(outcome)
    last = decide(POLICY, replace(GOOD, verdicts=verdicts))
    assert (last.action, "the last step needs non_inferior" in last.sentence) == (Action.HOLD, True)
    assert decide(POLICY, replace(FIRST, verdicts=verdicts)).action is Action.ADVANCE


@pytest.mark.parametrize("look", [*(look for look, _ in HOLDS.values() if look.step < SOAK)])
def test_nothing_holds_for_longer_than_max_hold(look: Look) -> None:
    assert decide(POLICY, replace(look, step_seconds=299.0)).action is Action.HOLD
    decision = decide(POLICY, replace(look, step_seconds=300.0))
    assert decision.action is Action.ROLL_BACK
    assert "no verdict within max_hold" in decision.sentence


def test_a_soak_without_data_ends_after_soak_and_max_hold() -> None:
    away = replace(SOAKED, unreachable="curl it")
    assert decide(POLICY, replace(away, step_seconds=319.0)).action is Action.HOLD
    assert decide(POLICY, replace(away, step_seconds=320.0)).action is Action.ROLL_BACK


@pytest.mark.parametrize("look", [GOOD, FIRST, SOAKED, *(look for look, _ in HOLDS.values())])
def test_a_regression_rolls_back_whatever_else_holds(look: Look) -> None:
    worse = replace(look, verdicts=[verdict(Outcome.non_inferior), verdict(Outcome.regression, "latency")])
    decision = decide(POLICY, worse)
    assert (decision.action, decision.sentence) == (Action.ROLL_BACK, "latency: regression")


def test_a_canary_that_cannot_serve_rolls_back() -> None:
    decision = decide(POLICY, replace(GOOD, lost="the canary has no ready pod"))
    assert (decision.action, decision.sentence) == (Action.ROLL_BACK, "the canary has no ready pod")


def test_missing_series_roll_back_only_after_their_deadline() -> None:
    assert decide(POLICY, replace(GOOD, silent_seconds=20.0)).action is Action.HOLD
    decision = decide(POLICY, replace(GOOD, silent_seconds=20.1))
    assert decision.action is Action.ROLL_BACK
    assert "deadlines.no_data" in decision.sentence
