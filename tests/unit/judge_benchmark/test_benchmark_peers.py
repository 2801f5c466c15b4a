"""Other tools' rules, as their documentation has them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from benchmarks.judge.peers import argo, flagger, kayenta
from benchmarks.judge.peers.kayenta import Label, Metric, classify, failed_at, judge

NAN = math.nan


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# --- Argo Rollouts ----------------------------------------------------------------------------------------------------


def test_argo_aborts_at_the_first_failed_measurement_by_default() -> None:
    assert argo.STRICT.aborted_at([1.0, 0.99, 0.98, 1.0]) == 2


def test_argo_aborts_when_failures_exceed_the_limit_not_when_they_reach_it() -> None:
    assert argo.Analysis(0.99, failure_limit=1).aborted_at([0.5, 1.0, 0.5]) == 2
    assert argo.Analysis(0.99, failure_limit=1).aborted_at([0.5, 1.0]) is None


def test_argo_takes_a_measurement_without_requests_for_a_failure() -> None:
    assert argo.STRICT.aborted_at([1.0, NAN]) == 1


# --- Flagger ----------------------------------------------------------------------------------------------------------


def test_flagger_rolls_back_at_the_fifth_failed_check() -> None:
    assert flagger.DOCUMENTED.rolled_back_at([0.98] * 5) == 4


def test_good_checks_in_between_do_not_take_failed_ones_away_from_flagger() -> None:
    assert flagger.DOCUMENTED.rolled_back_at([0.98, 1.0] * 5) == 8


def test_flagger_accepts_a_rate_at_its_limit_and_fails_a_check_without_a_value() -> None:
    assert flagger.DOCUMENTED.rolled_back_at([0.99] * 100) is None
    assert flagger.DOCUMENTED.rolled_back_at([NAN] * 5) == 4


# --- Kayenta ----------------------------------------------------------------------------------------------------------


def test_kayenta_finds_a_clear_shift_high_and_lets_a_drop_pass(rng: np.random.Generator) -> None:
    low, high = rng.normal(10, 1, 60), rng.normal(12, 1, 60)
    assert classify(high, low, rng) is Label.high
    assert classify(low, high, rng) is Label.passed


def test_kayenta_passes_identical_points_whatever_their_order(rng: np.random.Generator) -> None:
    assert classify(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), rng) is Label.passed


def test_kayenta_removes_nan_and_has_no_data_where_nothing_is_left(rng: np.random.Generator) -> None:
    points = np.array([1.0, 2.0, 3.0])
    assert classify(np.array([NAN, 2.0, NAN, 1.0, 3.0]), points, rng) is Label.passed
    assert classify(np.array([NAN, NAN]), points, rng) is Label.nodata
    assert classify(points, np.array([]), rng) is Label.nodata


def test_kayenta_judges_fewer_than_fifty_points_all_the_same(rng: np.random.Generator) -> None:
    assert classify(np.arange(10.0) + 100, np.arange(10.0), rng) is Label.high


def test_kayenta_passes_a_canary_that_is_a_hundredfold_in_seven_of_ten_points(rng: np.random.Generator) -> None:
    """Known from its users: the lower bound of the shift is 0, whatever the estimate."""
    assert classify(np.array([100.0] * 7 + [1.0] * 3), np.ones(10), rng) is Label.passed


def test_kayenta_tells_two_constant_arms_apart_by_adding_noise(rng: np.random.Generator) -> None:
    assert classify(np.full(50, 2.0), np.full(50, 1.0), rng) is Label.high


def test_kayenta_skips_the_effect_size_where_the_baseline_is_zero(rng: np.random.Generator) -> None:
    assert classify(rng.uniform(1, 2, 50), np.zeros(50), rng) is Label.high


def test_the_estimated_shift_is_the_median_of_all_differences(rng: np.random.Generator) -> None:
    x, y = rng.normal(3, 1, 31), rng.normal(0, 1, 29)
    differences = [a - b for a, b in product(x, y)]
    assert kayenta.shift(x, y, 0.0) == pytest.approx(np.median(differences), abs=0.02)


def test_the_statistic_is_the_textbooks_with_ties_and_continuity() -> None:
    """x = 2 2 3, y = 1 2 2: ranks 3.5 3.5 6, U − 4.5 = 2.5; σ² = 9/12 (7 − 60/30)."""
    x, y = np.array([2.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])
    assert kayenta.statistic(x, y, 0.0) == pytest.approx(2.0 / math.sqrt(0.75 * (7 - 60 / 30)))


@pytest.mark.parametrize(("moved", "low", "high"), [(0.25, 0.0, 0.08), (0.5, 0.12, 0.40), (1.0, 0.85, 1.0)])
def test_kayentas_power_with_fifty_points(rng: np.random.Generator, moved: float, low: float, high: float) -> None:
    """Reference: 2, 25 and 95 % at a shift of .25, .5 and 1 standard deviations."""
    found = [classify(rng.normal(10 + moved, 1, 50), rng.normal(10, 1, 50), rng) is Label.high for _ in range(100)]
    assert low <= np.mean(found) <= high


def test_kayentas_score_weighs_groups_by_the_metrics_that_pass(rng: np.random.Generator) -> None:
    same, high, nothing = np.arange(60.0), np.arange(60.0) + 100, np.array([])
    metrics = [
        Metric("errors", same, same),
        Metric("latency", high, same),
        Metric("latency", same, same),
        Metric("latency", nothing, same),
    ]
    assert judge(metrics, {"errors": 50.0, "latency": 50.0}, rng).score == 75.0


def test_kayentas_score_is_nothing_where_half_of_the_metrics_have_no_data(rng: np.random.Generator) -> None:
    same, nothing = np.arange(60.0), np.array([])
    judged = judge([Metric("errors", same, same), Metric("latency", nothing, same)], {"errors": 100.0}, rng)
    assert judged.score == 0.0


def test_kayenta_fails_a_run_below_marginal_at_once_and_the_last_below_pass() -> None:
    assert failed_at([75.0, 74.9, 100.0]) == 1
    assert failed_at([75.0, 75.0, 94.9]) == 2
    assert failed_at([75.0, 75.0, 95.0]) is None
