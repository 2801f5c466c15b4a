"""The minimal excess: its factors' expectation by enumeration, its level and its cost by simulation."""

import itertools
import math

import numpy as np
import pytest

from sluice.judge import Arm, Arms, ErrorsGate, InvalidGate, Outcome, Window
from sluice.judge.excess import STAKES, ExcessProcess, beyond
from sluice.judge.process import Design
from sluice.judge.regression import ERRORS
from tests.unit.judge.simulation import arms, likely_at_most


def errors(min_excess: float | None) -> ErrorsGate:
    return ErrorsGate(max_ratio=1.0, margin=0.01, floor=0.95, steps=3, min_excess=min_excess)


def outcomes(n: int, rate: float, burst: int) -> list[tuple[int, float]]:
    """Bad requests of n that fail in groups of `burst`, and their probabilities."""
    groups = [burst] * (n // burst) + [n % burst] * (n % burst > 0)
    chances = dict.fromkeys(range(n + 1), 0.0)
    for fails in itertools.product((0, 1), repeat=len(groups)):
        bad = sum(size for size, fail in zip(groups, fails, strict=True) if fail)
        chances[bad] += math.prod(rate if fail else 1 - rate for fail in fails)
    return list(chances.items())


@pytest.mark.parametrize("burst", [1, 2])
@pytest.mark.parametrize(("n_c", "n_s"), [(1, 9), (3, 11), (8, 8), (10, 1)])
@pytest.mark.parametrize("past", [Arm(0, 0), Arm(100, 10), Arm(100, 95)], ids=["no past", "truth", "far off"])
@pytest.mark.parametrize("excess", [0.01, 0.2, 0.6])
def test_the_expectation_at_the_boundary_is_at_most_one(
    n_c: int, n_s: int, past: Arm, excess: float, burst: int
) -> None:
    base, expectation = 0.1, [0.0] * len(STAKES)
    ours, theirs = outcomes(n_c, base + excess, burst), outcomes(n_s, base, burst)
    for (bad_c, chance_c), (bad_s, chance_s) in itertools.product(ours, theirs):
        ups = beyond(Arms(Arm(n_c, bad_c), Arm(n_s, bad_s)), past, excess, 0.05, float(burst))
        expectation = [e + chance_c * chance_s * math.exp(up) for e, up in zip(expectation, ups, strict=True)]

    assert max(expectation) <= 1.0 + 1e-9


@pytest.mark.parametrize("kappa", [2.0, 5.0])
def test_in_a_small_window_the_canarys_events_may_depend_in_any_way(kappa: float) -> None:
    """All requests of the canary fail together, twenty in a burst."""
    fails, works = (beyond(Arms(Arm(20, bad), Arm(500, 0)), Arm(0, 0), 0.05, 0.05, kappa) for bad in (20, 0))

    for up, down in zip(fails, works, strict=True):
        assert 0.05 * math.exp(up) + 0.95 * math.exp(down) == pytest.approx(1.0)


def test_no_factor_becomes_negative_whatever_happens() -> None:
    sizes = (1, 3, 50, 5000)
    for n_c, n_s, kappa in itertools.product(sizes, sizes, (1.0, 5.0, 20.0)):
        for bad_c, bad_s in itertools.product((0, n_c), (0, n_s)):
            for past in (Arm(0, 0), Arm(10, 10)):
                ups = beyond(Arms(Arm(n_c, bad_c), Arm(n_s, bad_s)), past, 0.005, 0.05, kappa)
                assert all(math.isfinite(up) for up in ups)


def test_alone_the_bet_is_against_the_ceiling() -> None:
    for n, kappa in ((3, 5.0), (12, 1.0)):
        expectation = [0.0] * len(STAKES)
        for bad, chance in outcomes(n, 0.05, 1):
            ups = beyond(Arms(Arm(n, bad), None), Arm(0, 0), 0.005, 0.05, kappa)
            expectation = [e + chance * math.exp(up) for e, up in zip(expectation, ups, strict=True)]
        assert expectation == pytest.approx([1.0] * len(STAKES))


def test_a_tenfold_rise_within_the_excess_is_no_regression() -> None:
    """.01 → .1 % at half of 100 000 requests a window: a ratio that nothing else could hide."""
    rise = [Window(0, Arm(50_000, 50), Arm(50_000, 5))] * 20

    plain, tolerant = errors(None), errors(0.005)
    for window in rise:
        plain, tolerant = plain.observe(window), tolerant.observe(window)

    assert plain.verdict().outcome is Outcome.regression
    verdict = tolerant.verdict()
    assert verdict.outcome is Outcome.non_inferior
    assert verdict.numbers["e_regression"] > verdict.numbers["e_regression_limit"]
    assert verdict.numbers["e_excess"] < verdict.numbers["e_excess_limit"]


def test_a_regression_tells_both_pieces_of_evidence() -> None:
    gate = errors(0.005)
    for _ in range(6):
        gate = gate.observe(Window(0, Arm(5, 2), Arm(45, 0)))

    verdict = gate.verdict()

    assert verdict.outcome is Outcome.regression
    assert "canary 12 of 30 requests bad, stable 0 of 270; e-value " in verdict.sentence
    assert "; more than 0.5 points more: e-value " in verdict.sentence


def test_the_floor_decides_by_itself() -> None:
    """The excess asked for is above what the floor allows; 30 % failures are less than that and below the floor."""
    gate = ErrorsGate(max_ratio=1.0, margin=0.01, floor=0.95, steps=3, min_excess=0.5)
    for _ in range(60):
        gate = gate.observe(Window(0, Arm(100, 30), Arm(900, 9)))

    verdict = gate.verdict()

    assert verdict.outcome is Outcome.regression
    assert "below the floor of 95 %" in verdict.sentence


def test_a_first_release_is_judged_by_the_ceiling_as_without() -> None:
    verdicts = []
    for gate in (errors(None), errors(0.005)):
        for _ in range(6):
            gate = gate.observe(Window(0, Arm(5, 2), None))
        verdicts.append(gate.verdict().outcome)

    assert verdicts == [Outcome.regression, Outcome.regression]


def test_a_shared_incident_shows_no_excess() -> None:
    gate = errors(0.005)
    for _ in range(100):
        gate = gate.observe(Window(0, Arm(10, 4), Arm(90, 36)))

    assert gate.log_e_excess < 1.0


@pytest.mark.parametrize("min_excess", [0.0, 1.0, -0.1])
def test_an_excess_that_cannot_be_names_its_field(min_excess: float) -> None:
    with pytest.raises(InvalidGate, match=r"errors\.min_excess"):
        errors(min_excess)


@pytest.mark.slow
@pytest.mark.parametrize("kappa", [1.0, 5.0])
@pytest.mark.parametrize(("canary_requests", "weight"), [(3, 0.1), (60, 0.25), (30, 0.9)])
def test_a_canary_at_the_boundary_is_rarely_shown_to_exceed(canary_requests: int, weight: float, kappa: float) -> None:
    """Stable's rate swings between 0 and 4 %, the canary's is half a point above; a look after each of 200 windows."""
    rng, releases, alarms = np.random.default_rng(11), 150, 0
    design = Design(ERRORS, 1.0, 0.01, 0.05, kappa, 1.0, steps=3)
    for _ in range(releases):
        process, peak = ExcessProcess(), 0.0
        for number in range(200):
            base = 0.02 * (1 + math.sin(number / 15))
            window = arms(rng, canary_requests, weight, base + 0.005, base)
            process = process.observe(design, 0.005, number // 50, window)
            peak = max(peak, process.log_e())
        alarms += peak >= math.log(20)

    assert alarms <= likely_at_most(0.05, releases)


@pytest.mark.slow
@pytest.mark.parametrize(("canary_requests", "stable_rate"), [(3, 0.0001), (3, 0.005), (30, 0.005)])
def test_a_failing_canary_is_found_nearly_as_early(canary_requests: int, stable_rate: float) -> None:
    """20 % failures at a weight of 10 %: at most half as many requests more at the median."""
    rng = np.random.default_rng(12)
    medians = [
        np.median([_requests_until_regression(rng, errors(excess), canary_requests, stable_rate) for _ in range(100)])
        for excess in (None, 0.005)
    ]

    assert medians[1] <= 1.5 * medians[0]


def _requests_until_regression(rng: np.random.Generator, gate: ErrorsGate, requests: int, stable_rate: float) -> int:
    seen = 0
    while gate.verdict().outcome is not Outcome.regression:
        one = arms(rng, requests, 0.1, 0.2, stable_rate)
        gate = gate.observe(Window(0, one.canary, one.stable))
        seen += requests
    return seen
