"""Whether the data can be judged: from the windows of one step, at one moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sluice.engine.freshness import FRESH, UNSEEN_ANSWERS, Data, Freshness
from sluice.ports import Totals
from tests.fakes import MORNING
from tests.unit.engine.dag_run import a_policy

POLICY = a_policy(data={"sparse": {"after": "1m", "then": "hold"}})
STABLE = Totals(started=100, answered=100, attempts=100, completed=100)
CANARY = Totals(started=5, answered=5, attempts=5, completed=5)


def at(seconds: float) -> datetime:
    return MORNING + timedelta(seconds=seconds)


OPENED = Freshness(since=at(0))


def kind(freshness: Freshness, seconds: float) -> tuple[Data, float]:
    state = freshness.state(POLICY, at(seconds), "", "")
    return state.kind, state.seconds


def test_requests_that_ended_lately_are_fresh_data() -> None:
    assert OPENED.observe(at(5), CANARY, STABLE).state(POLICY, at(10), "", "") == FRESH


def test_a_step_that_has_just_opened_is_given_time() -> None:
    assert kind(OPENED, 59)[0] is Data.FRESH


def test_a_canary_without_an_ended_request_for_long_is_sparse() -> None:
    quiet = OPENED.observe(at(5), CANARY, STABLE).observe(at(60), Totals(), STABLE)
    assert kind(quiet, 60) == (Data.FRESH, 0.0)
    assert kind(quiet, 70) == (Data.SPARSE, 65.0)


def test_series_that_are_missing_while_stables_move_are_missing_since_the_first_such_window() -> None:
    silent = OPENED.observe(at(5), None, STABLE).observe(at(10), None, STABLE)
    assert kind(silent, 12) == (Data.MISSING, 7.0)


def test_series_that_are_missing_while_nobody_has_traffic_are_no_sign() -> None:
    assert kind(OPENED.observe(at(5), None, Totals()), 10)[0] is Data.FRESH


def test_series_that_come_back_are_fresh_again() -> None:
    back = OPENED.observe(at(5), None, STABLE).observe(at(10), CANARY, STABLE)
    assert kind(back, 12)[0] is Data.FRESH


def test_answers_that_only_the_gateway_counts_contradict_the_servers() -> None:
    unseen = Totals(started=9, answered=9, attempts=9)
    contradictory = OPENED
    for second in range(1, 4):
        contradictory = contradictory.observe(at(second), unseen, STABLE)
    assert 3 * 9 >= UNSEEN_ANSWERS > 2 * 9
    assert kind(contradictory, 10) == (Data.CONTRADICTORY, 9.0)
    assert kind(contradictory.observe(at(11), CANARY, STABLE), 12)[0] is Data.FRESH


def test_failures_that_never_reach_a_server_are_no_contradiction() -> None:
    failing = Totals(started=90, answered=90, failed=90, attempts=90, attempts_failed=90)
    assert kind(OPENED.observe(at(1), failing, STABLE), 2)[0] is Data.FRESH


@pytest.mark.parametrize(
    ("unreachable", "contradiction", "expected"),
    [("curl it", "", Data.UNREACHABLE), ("", "9 of 3", Data.CONTRADICTORY), ("curl it", "9 of 3", Data.UNREACHABLE)],
)
def test_what_cannot_be_read_counts_from_the_last_window_that_could(
    unreachable: str, contradiction: str, expected: Data
) -> None:
    state = OPENED.observe(at(5), CANARY, STABLE).state(POLICY, at(20), unreachable, contradiction)
    assert (state.kind, state.seconds, state.sentence) == (expected, 15.0, unreachable or contradiction)
