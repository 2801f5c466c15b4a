"""The benchmark's simulations at few repetitions: a wrong formula fails, noise does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from benchmarks.judge import shipped, streams
from benchmarks.judge.__main__ import cells
from benchmarks.judge.calibration import INDEPENDENT
from benchmarks.judge.runner import Columns, run
from benchmarks.judge.streams import ERRORS, MIX, SLOW, Draw, bursts, independent
from sluice.engine.gates import Calibration
from sluice.judge import Dispersion
from tests.unit.judge.simulation import binomial

SEED = 11
NAMED = {cell.name: cell for cell in cells()}


@cache
def simulate(name: str, repetitions: int) -> Columns:
    """One cell in this process."""
    cell = NAMED[name]
    return run([cell], SEED, math.ceil(repetitions / cell.share), processes=1)[name]


def at_most(rate: float, repetitions: int) -> int:
    return binomial(rate, repetitions, 0.9995)


def at_least(rate: float, repetitions: int) -> int:
    return binomial(rate, repetitions, 0.0005)


def above_median(found: np.ndarray[tuple[int], np.dtype[np.float64]], limit: float) -> int:
    """How many took longer than `limit`, or never came to an end."""
    return int(np.sum(~(found <= limit)))


# --- the streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "dispersion"), [(independent, 1.0), (bursts, 5.0)])
def test_bad_requests_have_the_rate_and_the_variance_that_was_asked_for(draw: Draw, dispersion: float) -> None:
    bad = draw(np.random.default_rng(1), np.full(20_000, 500), 0.01)
    assert bad.mean() == pytest.approx(5.0, rel=0.05)
    assert bad.var() / bad.mean() == pytest.approx(dispersion, rel=0.05)


def test_a_stall_hits_whoever_is_there() -> None:
    arm = streams.stalls(np.random.default_rng(1), np.full(5_000, 100), 0.05)
    slow = arm.slow["e2e"]
    assert np.all(slow <= arm.requests)
    assert slow.sum() / arm.requests.sum() == pytest.approx(0.05, rel=0.05)
    assert set(np.unique(slow.sum(axis=1) % 5)) == {0}


def test_requests_are_split_by_weight_and_strata_by_the_mix() -> None:
    seen = streams.traffic(np.random.default_rng(1), 100, np.full(2_000, 0.10))
    arm = streams.slowness(np.random.default_rng(1), seen.stable, {"e2e": SLOW})
    assert seen.canary.sum() / (seen.canary.sum() + seen.stable.sum()) == pytest.approx(0.10, rel=0.02)
    assert arm.requests.sum(axis=0) / arm.requests.sum() == pytest.approx(np.array(MIX), abs=0.01)
    assert arm.slow["e2e"].sum() / arm.requests.sum() == pytest.approx(0.05, rel=0.03)


def test_a_healthy_release_goes_over_the_ladder_in_forty_looks() -> None:
    rng = np.random.default_rng(1)
    looks = list(streams.healthy(rng, streams.ladder(rng, 50)))
    assert [look.window.step for look in looks] == sorted([0, 1, 2, 3] * 10)
    assert {look.window.canary.requests for look in looks} == {50}
    assert {look.latency.step for look in looks} == {look.behaviour.step for look in looks} == {0, 1, 2, 3}


# --- healthy releases -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_healthy_releases_are_seldom_rolled_back_by_us_and_as_often_as_reckoned_by_thresholds() -> None:
    """A look fails ≥ 99 % with probability 1 − P(Binomial(100, .005) ≤ 1) = 9 %; Argo needs one of 40, Flagger five."""
    found, n = simulate("release_100", 60), 60
    look_fails = 1.0 - 0.995**100 - 100 * ERRORS * 0.995**99
    few = sum(math.comb(40, k) * look_fails**k * (1 - look_fails) ** (40 - k) for k in range(5))

    assert found["sluice"].sum() <= at_most(0.002, n)
    assert at_least(1 - (1 - look_fails) ** 40, n) <= found["argo"].sum()
    assert at_least(1 - few, n) <= found["flagger"].sum() <= at_most(1 - few, n)
    assert found["argo_95"].sum() <= at_most(0.001, n)


@pytest.mark.slow
def test_healthy_releases_are_promoted_in_about_the_looks_that_planning_reckons() -> None:
    found = simulate("release_500", 40)
    assert found["unproven"].sum() == 0
    assert 10 <= np.median(found["looks_to_promotion"]) <= 16


# --- bad canaries -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("exposure_20pct_3", 30),
        ("exposure_5pct_3", 140),
        ("exposure_2pct_3", 650),
        ("exposure_20pct_30", 120),
        ("exposure_5pct_30", 240),
    ],
)
def test_bad_canaries_are_found_within_few_requests(name: str, limit: float) -> None:
    """At least half within the limit; none is missed."""
    found, n = simulate(name, 150)["sluice"], 150
    assert above_median(found, limit) <= at_most(0.5, n)
    assert np.isnan(found).sum() <= at_most(0.005, n)


def test_flagger_needs_five_windows_of_a_canary_that_always_fails_its_check() -> None:
    assert np.median(simulate("exposure_20pct_120", 20)["flagger"]) == 5 * 120


@pytest.mark.slow
def test_a_late_onset_is_found_as_fast_as_with_a_start_at_its_step() -> None:
    found = simulate("exposure_late", 60)
    assert above_median(found["requests"], 450) <= at_most(0.5, 60)
    assert found["too_early"].sum() <= at_most(0.005, 60)


@pytest.mark.slow
def test_a_soak_finds_errors_by_its_holdback() -> None:
    assert above_median(simulate("soak", 60)["seconds"], 200) <= at_most(0.5, 60)


# --- false promotions -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boundary", "boundary_faultless", "boundary_ramp", "boundary_bursts"])
def test_a_canary_at_the_margin_is_seldom_promoted(name: str) -> None:
    assert simulate(name, 80)["promoted"].sum() <= at_most(0.05, 80)


@pytest.mark.slow
def test_bursts_taken_for_independent_errors_would_promote_half_of_them() -> None:
    """So the boundary cell sees a wrong burst factor."""
    found = simulate("boundary_bursts", 80)
    assert found["promoted_raw"].sum() >= at_least(0.4, 80)
    assert np.median(found["kappa"]) == pytest.approx(5.0, rel=0.15)


# --- latency ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("latency", 550), ("latency_single", 250)])
def test_slowness_is_found_within_few_requests(name: str, limit: float) -> None:
    assert above_median(simulate(name, 80)["requests"], limit) <= at_most(0.5, 80)


@pytest.mark.slow
def test_longer_prompts_are_no_regression_unless_strata_are_left_out() -> None:
    found = simulate("length_mix", 60)
    assert found["sluice"].sum() <= at_most(0.003, 60)
    assert found["unstratified"].sum() >= at_least(0.93, 60)
    assert found["p95"].sum() >= at_least(0.93, 60)


# --- equal versions ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ramp_halves", "ramp_doubles"])
def test_a_ramp_while_the_base_rate_moves_fools_the_pooled_test_only(name: str) -> None:
    found = simulate(name, 100)
    assert found["sluice"].sum() <= at_most(0.005, 100)
    assert found["pooled_z"].sum() >= at_least(0.98, 100)


@pytest.mark.slow
def test_bursts_raise_no_alarm_unless_every_event_counts_for_itself() -> None:
    measured, little, raw = simulate("bursts_50", 80), simulate("bursts_5", 80), simulate("bursts_raw_50", 60)
    assert measured["sluice"].sum() <= at_most(0.005, 80)
    assert little["sluice"].sum() <= at_most(0.005, 80)
    assert raw["latency"].sum() >= at_least(0.14, 60)
    assert raw["behaviour"].sum() >= at_least(0.14, 60)


# --- quality ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_quality_keeps_its_error_rates_with_a_look_after_every_pair() -> None:
    equal, margin = simulate("quality_equal", 120), simulate("quality_at_margin", 120)["promoted"]
    assert equal["shipped"].sum() <= at_most(0.002, 120)
    assert equal["single"].sum() <= at_most(0.05, 120)
    assert margin.sum() <= at_most(0.05, 120)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shipped_limit", "single_limit"), [("10pt", 260, 120), ("38pt", 40, 25)])
def test_worse_quality_is_stopped_within_few_pairs(name: str, shipped_limit: float, single_limit: float) -> None:
    found = simulate(f"quality_{name}", 120)
    assert above_median(found["shipped"], shipped_limit) <= at_most(0.5, 120)
    assert above_median(found["single"], single_limit) <= at_most(0.5, 120)


# --- the gates --------------------------------------------------------------------------------------------------------


def test_the_gates_are_those_of_a_policy_left_at_its_defaults() -> None:
    gates = shipped.gates()
    assert gates.errors.alpha_regression == shipped.ALPHA.errors
    assert gates.latency.alpha_regression == shipped.ALPHA.latency
    assert gates.behaviour.alpha_regression == shipped.ALPHA.behaviour
    assert shipped.ALPHA.total == pytest.approx(shipped.POLICY.alpha.rollback)
    assert set(streams.ODD) == set(gates.behaviour.events)


@pytest.mark.parametrize("judge", [shipped.errors, shipped.latency, shipped.behaviour])
def test_every_gate_is_given_the_measured_burst_factor(judge: Callable[..., object]) -> None:
    bursty = Calibration(*(Dispersion(9.0, 10_000),) * 3)
    assert judge(bursty) != judge(INDEPENDENT)
