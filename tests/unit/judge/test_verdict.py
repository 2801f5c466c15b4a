import json

import pytest

from sluice.judge import (
    AlphaSplit,
    BehaviourGate,
    ErrorsGate,
    FidelityGate,
    InvalidGate,
    LatencyGate,
    Outcome,
    QualityGate,
    Verdict,
)
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


@pytest.mark.parametrize("fidelity", [False, True])
def test_the_rollback_budget_is_spent_once(fidelity: bool) -> None:
    split = AlphaSplit(rollback=0.02, fidelity=fidelity)

    spent = [
        getattr(split, name)
        for name, value in vars(AlphaSplit).items()
        if isinstance(value, property) and name != "total"
    ]

    assert split.total == pytest.approx(sum(spent)) == pytest.approx(0.02)
    assert AlphaSplit().errors == pytest.approx(0.0045)


def test_what_is_asked_twice_shares_its_part() -> None:
    split = AlphaSplit()

    assert split.latency + split.latency_examination == pytest.approx(0.0025)
    assert split.behaviour + split.behaviour_examination == pytest.approx(0.0005)


def test_a_limit_of_fidelity_is_paid_by_quality() -> None:
    without, limited = AlphaSplit(), AlphaSplit(fidelity=True)

    assert limited.quality + limited.fidelity_examination == pytest.approx(without.quality)
    assert without.fidelity_examination == 0.0


def test_the_gates_defaults_are_the_splits() -> None:
    split, limited = AlphaSplit(), AlphaSplit(fidelity=True)
    errors = ErrorsGate(max_ratio=1.0, margin=0.01, floor=0.95, steps=3)
    latency = LatencyGate(strata={"ttft": ("all",)}, margin=0.03, ceiling=0.1, steps=3)
    quality = QualityGate(margin=0.05, floor=0.6, categories=("all",))

    assert (errors.alpha_regression, errors.alpha_floor) == pytest.approx((split.errors, split.floor))
    assert latency.alpha_regression == pytest.approx(split.latency)
    assert (quality.alpha_regression, quality.alpha_category) == pytest.approx((split.quality, split.category))
    assert BehaviourGate(("empty",), steps=3).alpha_regression == pytest.approx(split.behaviour)
    assert FidelityGate(limit=0.1).alpha_regression == pytest.approx(limited.fidelity_examination)


def test_a_total_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(InvalidGate, match=r"alpha\.promote: 1\.0"):
        AlphaSplit(promote=1.0)
