"""The increments of the margin test against hand-computed values, and their expectation by enumeration."""

import itertools
import math

import pytest

from sluice.judge import Arm
from sluice.judge.noninferiority import STAKES, START, add, below_ceiling, centre, log_e, within_margin


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def test_a_window_multiplies_each_request() -> None:
    theta, margin, g, odds = 0.02, 0.01, 0.25, 10 / 90

    up = within_margin(Arm(10, 1), Arm(90, 2), theta, margin)[STAKES.index(g)]

    by_hand = math.log(1 - g * (1 - theta - margin)) + 9 * math.log(1 + g * (theta + margin))
    by_hand += 2 * math.log(1 + g * odds * (1 - theta)) + 88 * math.log(1 - g * odds * theta)
    assert up == pytest.approx(by_hand)


@pytest.mark.parametrize(("n_c", "n_s"), [(3, 20), (8, 8), (9, 1)])
@pytest.mark.parametrize("theta_by", ["truth", "far off"])
@pytest.mark.parametrize("base", [0.0, 0.05, 0.4])
def test_the_expectation_at_the_margin_is_at_most_one(n_c: int, n_s: int, theta_by: str, base: float) -> None:
    margin = 0.1
    past = Arm(1000, int(1000 * base)) if theta_by == "truth" else Arm(1000, 700)
    theta = centre(past, Arm(n_c, 0), Arm(n_s, 0), margin)
    expectation = [0.0] * len(STAKES)
    for bad_c, bad_s in itertools.product(range(n_c + 1), range(n_s + 1)):
        chance = binomial(n_c, bad_c, base + margin) * binomial(n_s, bad_s, base)
        ups = within_margin(Arm(n_c, bad_c), Arm(n_s, bad_s), theta, margin)
        expectation = [e + chance * math.exp(up) for e, up in zip(expectation, ups, strict=True)]

    assert max(expectation) <= 1.0 + 1e-9


def test_alone_the_expectation_at_the_ceiling_is_one() -> None:
    expectation = [0.0] * len(STAKES)
    for bad in range(31):
        ups = below_ceiling(Arm(30, bad), 0.05)
        expectation = [e + binomial(30, bad, 0.05) * math.exp(up) for e, up in zip(expectation, ups, strict=True)]

    assert expectation == pytest.approx([1.0] * len(STAKES))


def test_the_centre_is_stables_past_rate_moved_towards_the_margin() -> None:
    assert centre(Arm(1000, 20), Arm(10, 0), Arm(90, 0), 0.05) == pytest.approx(0.02 - 0.05 * 0.1)
    assert centre(Arm(1000, 1), Arm(10, 0), Arm(90, 0), 0.05) == 0.0
    assert centre(Arm(0, 0), Arm(10, 0), Arm(90, 0), 0.05) == 0.0


def test_no_factor_becomes_negative_where_the_canary_has_most_of_the_traffic() -> None:
    canary, stable = Arm(90, 0), Arm(1, 0)
    theta = centre(Arm(100, 90), canary, stable, 0.05)

    assert all(math.isfinite(up) for up in within_margin(canary, stable, theta, 0.05))


def test_two_faultless_versions_need_439_requests_for_a_point() -> None:
    def e_after(n: int) -> float:
        return log_e(add(START, within_margin(Arm(n, 0), Arm(9 * n, 0), 0.0, 0.01), 1.0))

    assert e_after(438) >= math.log(20) > e_after(430)


def test_bursts_temper_the_evidence() -> None:
    ups = within_margin(Arm(100, 0), Arm(900, 0), 0.0, 0.01)

    assert add(START, ups, 5.0) == pytest.approx([up / 5.0 for up in ups])
