import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge import InvalidEvidence, InvalidGate, Outcome, Pair, QualityGate


def quality(**changes: Any) -> QualityGate:
    settings: dict[str, Any] = {"margin": 0.05, "floor": 0.6} | changes
    return QualityGate(categories=("add", "sub"), **settings)


def pair(canary: float, stable: float | None, category: str = "add") -> Pair:
    return Pair("p1", category, canary, stable)


def after(gate: QualityGate, pairs: list[Pair]) -> QualityGate:
    for one in pairs:
        gate = gate.observe(one)
    return gate


def test_nothing_scored_is_no_data() -> None:
    assert quality().verdict().outcome is Outcome.no_data


def test_k_minus_and_k_plus_are_the_formulas() -> None:
    gate = after(quality(), [pair(0.0, 1.0), pair(1.0, 0.5)])

    k_minus = sum((1 + x) * (1 - x * 0.5) for x in (0.1, 0.3, 0.6, 0.9)) / 4
    k_plus = 0.0
    for fraction in (0.15, 0.4, 0.8):
        stake = fraction / 0.95
        k_plus += (1 + stake * (-1 + 0.05)) * (1 + stake * (0.5 + 0.05)) / 3
    first = sum(1 + x for x in (0.1, 0.3, 0.6, 0.9)) / 4
    assert math.exp(gate.log_e_regression) == pytest.approx(max(first, k_minus))
    assert gate.verdict().numbers["e_non_inferior"] == pytest.approx(k_plus)


def test_a_tolerated_drop_moves_the_null_hypothesis() -> None:
    gate = quality(max_drop=0.1).observe(pair(0.0, 1.0))

    expected = sum(1 - x / 1.1 * (-1 + 0.1) for x in (0.1, 0.3, 0.6, 0.9)) / 4
    assert math.exp(gate.log_e_regression) == pytest.approx(expected)


def test_a_damaged_version_is_a_regression_within_tens_of_prompts() -> None:
    verdict = after(quality(), [pair(0.0, 1.0), pair(1.0, 1.0)] * 15).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.sentence.startswith(
        "quality: canary better on 0 and worse on 15 of 30 prompts (-50.0 points); e-value"
    )


def test_identical_answers_are_non_inferior() -> None:
    pairs = [pair(1.0, 1.0)] * 103

    assert after(quality(), pairs[:80]).verdict().outcome is Outcome.inconclusive
    verdict = after(quality(), pairs).verdict()
    assert verdict.outcome is Outcome.non_inferior
    assert "at most 5 points worse: e-value" in verdict.sentence


def test_the_loss_of_one_category_is_not_hidden_by_gains_elsewhere() -> None:
    lost, gained = pair(0.0, 1.0, "sub"), pair(1.0, 0.0, "add")

    verdict = after(quality(), [lost, gained, gained] * 25).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.numbers["e_regression"] < verdict.numbers["e_regression_limit"]
    assert "but category sub got worse; e-value" in verdict.sentence


def test_the_guard_averages_over_all_categories_even_unseen_ones() -> None:
    gate = quality().observe(pair(0.0, 1.0, "sub"))

    seen = sum(1 + x for x in (0.1, 0.3, 0.6, 0.9)) / 4
    assert math.exp(gate.log_e_category) == pytest.approx((seen + 1.0) / 2)


def test_a_first_release_above_its_floor_passes() -> None:
    verdict = after(quality(), [pair(1.0, None)] * 9 + [pair(0.0, None)] + [pair(1.0, None)] * 9).verdict()

    assert verdict.outcome is Outcome.non_inferior
    assert verdict.sentence.startswith(
        "quality: canary's mean score 94.7 % over 19 prompts; above the floor of 60 %: e-value"
    )


def test_a_first_release_below_its_floor_is_a_regression() -> None:
    verdict = after(quality(), [pair(0.0, None)] * 20).verdict()

    assert verdict.outcome is Outcome.regression


def test_a_first_release_near_its_floor_stays_inconclusive() -> None:
    pairs = [pair(1.0, None)] * 3 + [pair(0.0, None)] * 2

    assert after(quality(), pairs * 100).verdict().outcome is Outcome.inconclusive


def test_an_unknown_category_or_score_is_refused() -> None:
    with pytest.raises(InvalidEvidence, match="p1: category 'mul' is none of add, sub"):
        quality().observe(pair(1.0, 1.0, "mul"))
    with pytest.raises(InvalidEvidence, match=r"p1: score 1\.5"):
        pair(1.5, 1.0)


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"margin": 1.0}, {"max_drop": -0.1}])
def test_a_configuration_that_cannot_be_names_its_field(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidGate, match=rf"quality\.{next(iter(wrong))}"):
        quality(**wrong)


def test_a_prompt_set_without_categories_is_refused() -> None:
    with pytest.raises(InvalidGate, match=r"quality\.categories"):
        QualityGate(margin=0.05, floor=0.6, categories=())


scores = st.floats(0.0, 1.0)
pair_lists = st.lists(st.builds(Pair, st.just("p"), st.sampled_from(["add", "sub"]), scores, scores), max_size=30)


@given(pair_lists)
@settings(deadline=None)
def test_observing_never_changes_the_gate_and_replaying_gives_the_same_bits(pairs: list[Pair]) -> None:
    gate = quality()
    before = repr(gate)

    first = after(gate, pairs).verdict()

    assert repr(gate) == before
    assert after(gate, pairs).verdict() == first


@given(pair_lists)
@settings(deadline=None)
def test_no_evidence_speaks_for_a_drop_and_against_it(pairs: list[Pair]) -> None:
    gate = after(quality(), pairs)
    exchanged = after(quality(), [Pair(p.prompt_id, p.category, p.stable_score or 0.0, p.canary_score) for p in pairs])

    assert min(gate.down) < 0.0 or min(exchanged.down) <= 1e-12
