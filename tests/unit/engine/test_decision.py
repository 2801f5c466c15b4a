"""What a look means for a step: every reason to hold, to advance, to roll back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.engine.decision import Action, Look, decide
from sluice.engine.freshness import Data, DataState
from sluice.judge import Outcome, Verdict
from tests.unit.engine.dag_run import a_policy

POLICY = a_policy()  # two steps with 10 s and 20 requests each; max_hold 5m, soak 20s, data.missing 20s
SOAK = 2


AWAY = DataState(Data.UNREACHABLE, 9.0, "curl it")


def silent(seconds: float) -> DataState:
    return DataState(Data.MISSING, seconds, "the canary's series are missing")


def verdict(outcome: Outcome, gate: str = "errors") -> Verdict:
    return Verdict(gate, outcome, f"{gate}: {outcome}", {})


GOOD = Look(
    step=1,
    step_seconds=30.0,
    agreed_seconds=20.0,
    canary_requests=100,
    share=verdict(Outcome.non_inferior, "share"),
    verdicts=[verdict(Outcome.non_inferior), verdict(Outcome.non_inferior, "latency")],
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
    "metrics away": (replace(GOOD, data=AWAY), "no data: curl it"),
    "contradictory": (replace(GOOD, data=DataState(Data.CONTRADICTORY, 9.0, "9 of 3")), "no data: 9 of 3"),
    "sparse": (replace(GOOD, data=DataState(Data.SPARSE, 400.0, "no request ended")), "no data: no request ended"),
    "drift": (replace(GOOD, drift="somebody edited"), "somebody edited"),
    "canary silent": (replace(GOOD, data=silent(5.0)), "the canary's series are missing"),
    "soak not over": (replace(SOAKED, step_seconds=15.0), "the soak ends in 5 s"),
    "metrics away in the soak": (replace(SOAKED, data=AWAY), "no data: curl it"),
}


@pytest.mark.parametrize(("look", "sentence"), HOLDS.values(), ids=HOLDS)
def test_a_step_holds_and_says_what_for(look: Look, sentence: str) -> None:
    decision = decide(POLICY, look)
    assert decision.action is Action.HOLD
    assert sentence in decision.sentence


@pytest.mark.parametrize("outcome", [Outcome.inconclusive, Outcome.no_data])
@pytest.mark.parametrize("gate", [0, 1])
def test_only_the_last_step_needs_every_gate(outcome: Outcome, gate: int) -> None:
    verdicts = list(GOOD.verdicts)
    verdicts[gate] = verdict(outcome, verdicts[gate].gate)
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
    away = replace(SOAKED, data=AWAY)
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
    assert decide(POLICY, replace(GOOD, data=silent(20.0))).action is Action.HOLD
    decision = decide(POLICY, replace(GOOD, data=silent(20.1)))
    assert decision.action is Action.ROLL_BACK
    assert "data.missing" in decision.sentence


@pytest.mark.parametrize("kind", [kind for kind in Data if kind is not Data.FRESH])
def test_each_kind_of_data_has_its_own_policy(kind: Data) -> None:
    state = DataState(kind, 31.0, "why")
    patient = a_policy(data={kind.value: {"after": "30s", "then": "hold"}})
    strict = a_policy(data={kind.value: {"after": "30s", "then": "roll_back"}})
    assert decide(patient, replace(GOOD, data=state)).action is Action.HOLD
    assert decide(strict, replace(GOOD, data=state)).action is Action.ROLL_BACK
    assert decide(strict, replace(GOOD, data=replace(state, seconds=29.0))).action is Action.HOLD


def test_a_quiet_night_does_not_keep_a_soak_from_ending() -> None:
    quiet = replace(SOAKED, data=DataState(Data.SPARSE, 900.0, "no request ended"))
    assert decide(POLICY, quiet).action is Action.ADVANCE


def test_behaviour_can_only_object() -> None:
    odd = verdict(Outcome.inconclusive, "behaviour")
    assert decide(POLICY, replace(GOOD, verdicts=[*GOOD.verdicts, odd])).action is Action.ADVANCE
    worse = verdict(Outcome.regression, "behaviour")
    assert decide(POLICY, replace(GOOD, verdicts=[*GOOD.verdicts, worse])).action is Action.ROLL_BACK
