import itertools
import math
from typing import Any

import numpy as np
import pytest

from sluice.judge import (
    ShareGate,
    StartedWindow,
    pairs_needed,
    requests_needed,
    requests_to_detect,
    share_requests_needed,
    smallest_certifiable_margin,
)
from sluice.judge.process import Design, RegressionProcess
from sluice.judge.regression import BEHAVIOUR, ERRORS, LATENCY
from tests.unit.judge.simulation import arms, requests_until_regression


def test_faultless_versions_need_a_fixed_number_of_requests() -> None:
    needed = requests_needed(margin=0.01, base_rate=0.0, ratio=1 / 9)

    assert needed.median == needed.p99 == pytest.approx(439, rel=0.02)


@pytest.mark.parametrize(("base_rate", "median"), [(0.005, 728), (0.01, 1068)])
def test_requests_grow_with_the_base_rate_as_measured(base_rate: float, median: float) -> None:
    assert requests_needed(margin=0.01, base_rate=base_rate, ratio=1 / 9).median == pytest.approx(median, rel=0.2)


def test_bursts_multiply_the_requests() -> None:
    plain, bursty = (requests_needed(0.01, 0.005, 1 / 9, kappa=kappa) for kappa in (1.0, 5.0))

    assert bursty.median == pytest.approx(5 * plain.median)
    assert plain.median < plain.p90 < plain.p99


@pytest.mark.parametrize(
    ("discordance", "margin", "median"), [(0.05, 0.01, 3805), (0.05, 0.05, 196), (0.1, 0.02, 1728), (0.2, 0.05, 592)]
)
def test_pairs_grow_with_discordance_as_measured(discordance: float, margin: float, median: float) -> None:
    assert pairs_needed(margin, discordance=discordance).median == pytest.approx(median, rel=0.2)


@pytest.mark.parametrize("prompts", [50, 300, 1100, 5000])
def test_the_smallest_margin_needs_exactly_the_prompts_there_are(prompts: int) -> None:
    margin = smallest_certifiable_margin(prompts, alpha=0.05)

    assert pairs_needed(margin, alpha=0.05).median == pytest.approx(prompts)


def test_three_hundred_prompts_cannot_certify_a_point() -> None:
    assert smallest_certifiable_margin(300) > 0.01
    assert smallest_certifiable_margin(1100) < 0.05
    assert smallest_certifiable_margin(0) == 1.0


@pytest.mark.parametrize(("old", "new", "median"), [(1, 5, 170), (5, 10, 318), (10, 25, 97), (25, 50, 73)])
def test_requests_until_the_share_agrees_as_measured(old: int, new: int, median: float) -> None:
    assert share_requests_needed(old, new).median == pytest.approx(median, rel=0.15)


def test_from_nothing_the_share_agrees_with_the_canarys_first_start() -> None:
    assert share_requests_needed(0, 50).median == pytest.approx(1.0)
    assert 0.95 ** share_requests_needed(0, 5).p99 == pytest.approx(0.01)


@pytest.mark.parametrize(("old", "new"), [(1, 5), (5, 10), (10, 25), (25, 50)])
def test_the_share_agrees_within_the_reckoned_requests(old: int, new: int) -> None:
    """2 000 ladders with the right share: half agree by the median, 90 % by p90, 99 % by p99 (with binomial slack)."""
    rng = np.random.default_rng(1)
    for requests, least in zip(share_requests_needed(old, new), (0.42, 0.88, 0.98), strict=True):
        canary = rng.binomial(int(requests), new / 100, 2000)
        agrees = [ShareGate(old, new).observe(StartedWindow(int(c), int(requests - c))).agrees for c in canary]
        assert sum(agrees) / 2000 >= least


DETECTED: list[dict[str, Any]] = [
    {"canary_rate": 0.2, "weight": 10, "kappa": 5.0, "alpha": 0.0045, "window": 3},
    {"canary_rate": 0.05, "weight": 10, "kappa": 5.0, "alpha": 0.0045, "window": 3},
    {"canary_rate": 0.05, "weight": 10, "kappa": 5.0, "alpha": 0.0045, "window": 30},
    {"canary_rate": 0.05, "weight": 50, "kappa": 5.0, "alpha": 0.0045, "window": 120},
    {"canary_rate": 0.05, "weight": 5, "kappa": 1.0, "alpha": 0.0045, "window": 30},
    {"canary_rate": 0.2, "weight": 10, "kappa": 5.0, "alpha": 0.0045, "window": 3, "max_ratio": 2.0},
    {"canary_rate": 0.1, "stable_rate": 0.05, "weight": 10, "kappa": 1.0, "alpha": 0.05, "alternatives": LATENCY},
    {"canary_rate": 0.05, "weight": 10, "kappa": 1.0, "alpha": 0.00003, "window": 10, "alternatives": BEHAVIOUR},
]


@pytest.mark.slow
@pytest.mark.parametrize("case", DETECTED, ids=[str(number) for number in range(len(DETECTED))])
def test_requests_until_regression_as_the_gates_test_needs_them(case: dict[str, Any]) -> None:
    defaults: dict[str, Any] = {"stable_rate": 0.005, "window": 3, "max_ratio": 1.0, "alternatives": ERRORS}
    case = defaults | case
    rng = np.random.default_rng(21)
    design = Design(case["alternatives"], case["max_ratio"], 0.01, 0.05, case["kappa"], 1.0, steps=4)
    rates = case["canary_rate"], case["stable_rate"]
    found = [
        requests_until_regression(
            ((0, arms(rng, case["window"], case["weight"] / 100, *rates)) for _ in itertools.count()),
            design,
            case["alpha"],
            RegressionProcess(),
        )
        for _ in range(80)
    ]

    assert np.median(found) == pytest.approx(requests_to_detect(**case), rel=0.3)


def test_a_version_that_is_no_worse_is_never_found() -> None:
    assert requests_to_detect(0.005, 0.005, weight=10, kappa=5.0, alpha=0.0045) == math.inf
    assert requests_to_detect(0.0, 0.005, weight=50, kappa=1.0, alpha=0.0045, window=1000) == math.inf


def test_detection_comes_in_whole_windows() -> None:
    assert requests_to_detect(0.2, 0.005, weight=10, kappa=5.0, alpha=0.0045, window=1000) == 1000
