"""The increments of the regression test against hand-computed values, and their expectation by enumeration."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge import Arm
from sluice.judge.regression import ERRORS, LATENCY, Alternative, above_ceiling, compared

TENFOLD = (Alternative(10.0, 1.0),)
requests = st.integers(1, 60)


def test_a_single_bad_event_of_the_canary_counts_q_over_p() -> None:
    # 10 of 100 requests: p₀ = .1; a tenfold rate means q = 100/190.
    [up] = compared([(Arm(10, 1), Arm(90, 0))], TENFOLD, 1.0, 5.0)

    assert math.exp(up) == pytest.approx((100 / 190) / 0.1)


def test_a_window_with_few_bad_events_is_one_vote() -> None:
    q, p = 100 / 190, 0.1

    [up] = compared([(Arm(10, 3), Arm(90, 1))], TENFOLD, 1.0, 5.0)

    assert math.exp(up) == pytest.approx(0.75 * q / p + 0.25 * (1 - q) / (1 - p))


def test_a_window_with_many_bad_events_is_tempered() -> None:
    q, p = 100 / 190, 0.1

    [up] = compared([(Arm(10, 6), Arm(90, 2))], TENFOLD, 1.0, 5.0)

    assert up == pytest.approx((6 * math.log(q / p) + 2 * math.log((1 - q) / (1 - p))) / 5.0)


def test_independent_events_count_in_full() -> None:
    q, p = 100 / 190, 0.1

    [up] = compared([(Arm(10, 1), Arm(90, 1))], TENFOLD, 1.0, 1.0)

    assert up == pytest.approx(math.log(q / p) + math.log((1 - q) / (1 - p)))


def test_a_tolerated_ratio_moves_the_null_hypothesis() -> None:
    # Twice the rate is tolerated: p₀ = 20/110; the alternative is ten times that: q = 200/290.
    [up] = compared([(Arm(10, 1), Arm(90, 0))], TENFOLD, 2.0, 1.0)

    assert math.exp(up) == pytest.approx((200 / 290) / (20 / 110))


def test_each_event_has_the_share_of_its_own_stratum() -> None:
    strata = [(Arm(10, 1), Arm(90, 0)), (Arm(50, 0), Arm(50, 1))]

    [together] = compared(strata, TENFOLD, 1.0, 1.0)
    [vote] = compared(strata, TENFOLD, 1.0, 5.0)

    factors = (100 / 190) / 0.1, (50 / 550) / 0.5
    assert together == pytest.approx(math.log(factors[0]) + math.log(factors[1]))
    assert math.exp(vote) == pytest.approx(sum(factors) / 2)


@pytest.mark.parametrize("kappa", [1.0, 5.0])
def test_a_window_without_bad_events_or_without_one_arm_says_nothing(kappa: float) -> None:
    for window in [(Arm(10, 0), Arm(90, 0)), (Arm(10, 9), Arm(0, 0)), (Arm(0, 0), Arm(90, 9))]:
        assert compared([window], ERRORS, 1.0, kappa) == pytest.approx((0.0,) * 4)


@given(canary=requests, stable=requests, events=st.integers(1, 12), kappa=st.sampled_from([1.0, 2.0, 5.0]))
@settings(deadline=None)
def test_the_expectation_is_at_most_one_for_equal_versions(canary: int, stable: int, events: int, kappa: float) -> None:
    """Given T bad events among equal versions the canary's count is hypergeometric."""
    events = min(events, canary + stable)
    expectation = [0.0] * len(LATENCY)
    for bad in range(max(0, events - stable), min(events, canary) + 1):
        chance = math.comb(canary, bad) * math.comb(stable, events - bad) / math.comb(canary + stable, events)
        ups = compared([(Arm(canary, bad), Arm(stable, events - bad))], LATENCY, 1.0, kappa)
        expectation = [e + chance * math.exp(up) for e, up in zip(expectation, ups, strict=True)]

    assert max(expectation) <= 1.0 + 1e-9


@given(canary=st.integers(7, 60), stable=st.integers(7, 60), size=st.integers(1, 7))
@settings(deadline=None)
def test_one_vote_holds_for_bursts_that_hit_one_arm_whole(canary: int, stable: int, size: int) -> None:
    share = canary / (canary + stable)
    to_canary = compared([(Arm(canary, size), Arm(stable, 0))], ERRORS, 1.0, 5.0)
    to_stable = compared([(Arm(canary, 0), Arm(stable, size))], ERRORS, 1.0, 5.0)

    for up, down in zip(to_canary, to_stable, strict=True):
        assert share * math.exp(up) + (1 - share) * math.exp(down) == pytest.approx(1.0)


@given(st.tuples(requests, requests), st.integers(0, 7), st.sampled_from([1.0, 5.0]))
@settings(deadline=None)
def test_exchanging_the_roles_turns_the_evidence_round(sizes: tuple[int, int], bad: int, kappa: float) -> None:
    one, other = Arm(sizes[0], min(bad, sizes[0])), Arm(sizes[1], 0)

    for up, down in zip(
        compared([(one, other)], ERRORS, 1.0, kappa), compared([(other, one)], ERRORS, 1.0, kappa), strict=True
    ):
        assert up >= -1e-12
        assert down <= 1e-12


def log_binomial(n: int, k: int, p: float) -> float:
    return math.log(math.comb(n, k)) + k * math.log(p) + (n - k) * math.log(1 - p)


@pytest.mark.parametrize("kappa", [1.0, 5.0])
@pytest.mark.parametrize("n", [1, 3, 40, 400])
def test_alone_the_expectation_at_the_ceiling_is_at_most_one(n: int, kappa: float) -> None:
    ceiling = 0.05
    for j in range(len(ERRORS)):
        expectation = sum(
            math.exp(log_binomial(n, bad, ceiling) + above_ceiling(Arm(n, bad), ERRORS, ceiling, kappa)[j])
            for bad in range(n + 1)
        )
        assert expectation <= 1.0 + 1e-9


def test_alone_a_window_that_fails_whole_at_the_ceilings_rate_is_a_fair_bet() -> None:
    ceiling, n = 0.05, 20
    fails, works = (above_ceiling(Arm(n, bad), ERRORS, ceiling, 5.0) for bad in (n, 0))

    for up, down in zip(fails, works, strict=True):
        assert ceiling * math.exp(up) + (1 - ceiling) * math.exp(down) == pytest.approx(1.0)


def test_alone_many_requests_are_a_tempered_likelihood_ratio() -> None:
    [up] = above_ceiling(Arm(1000, 100), (Alternative(2.0, 1.0),), 0.05, 5.0)

    assert up == pytest.approx((100 * math.log(0.1 / 0.05) + 900 * math.log(0.9 / 0.95)) / 5.0)
