import json

import pytest

from sluice.judge import AlphaSplit, InvalidGate, Outcome, Verdict
from sluice.judge.verdict import against, amount, outcome_of, points


def test_a_verdict_survives_the_way_through_json() -> None:
    verdict = Verdict("errors", Outcome.regression, "errors: canary 9 of 31 requests bad", {"e_regression": 312.5})

    assert Verdict.from_record(json.loads(json.dumps(verdict.to_record()))) == verdict


def test_a_record_with_another_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="shipped"):
        Verdict.from_record({"gate": "errors", "outcome": "shipped", "sentence": "", "numbers": {}})


@pytest.mark.parametrize(
    ("any_data", "regression", "non_inferior", "outcome"),
    [
        (True, True, True, Outcome.regression),
        (False, True, False, Outcome.regression),
        (False, False, True, Outcome.no_data),
        (True, False, True, Outcome.non_inferior),
        (True, False, False, Outcome.inconclusive),
    ],
)
def test_regression_wins_and_nothing_is_shipped_without_data(
    any_data: bool, regression: bool, non_inferior: bool, outcome: Outcome
) -> None:
    assert outcome_of(any_data=any_data, regression=regression, non_inferior=non_inferior) is outcome


def test_numbers_in_sentences_are_short() -> None:
    assert [amount(x) for x in (1.234, 222.2, 1234.5, 1e300)] == ["1.23", "222", "1234", "over a million"]
    assert against(312, 222) == "e-value 312 ≥ 222"
    assert against(1.2, 20) == "e-value 1.2 < 20"
    assert (points(0.01), points(0.03)) == ("1 point", "3 points")


def test_the_rollback_budget_is_spent_once() -> None:
    split = AlphaSplit(rollback=0.02)

    spent = split.errors + split.floor + split.latency + split.quality + split.category + split.behaviour

    assert spent == pytest.approx(0.02)
    assert AlphaSplit().errors == pytest.approx(0.0045)


def test_a_total_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(InvalidGate, match=r"alpha\.promote: 1\.0"):
        AlphaSplit(promote=1.0)
