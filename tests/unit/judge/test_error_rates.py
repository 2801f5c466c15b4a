"""The gates' error rates and speed by simulation, beside reference figures that were found independently.

Rates are compared by binomial limits (99.9 %), medians by what the repetitions can resolve. Every simulation drives the
gates themselves, window by window.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from sluice.judge import (
    Arm,
    Arms,
    ErrorsGate,
    LatencyGate,
    LatencyWindow,
    Outcome,
    Pair,
    QualityGate,
    ShareGate,
    StartedWindow,
    Window,
)
from sluice.judge.process import Design, MarginProcess, RegressionProcess
from sluice.judge.regression import ERRORS, LATENCY
from tests.unit.judge.simulation import arm, arms, likely_at_most, requests_until_regression

pytestmark = pytest.mark.slow

LADDER = (0.05, 0.1, 0.25, 0.5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250)


def design(kappa: float = 5.0, kappa_promote: float = 1.0, margin: float = 0.01) -> Design:
    return Design(ERRORS, 1.0, margin, 0.05, kappa, kappa_promote, steps=len(LADDER))


def requests_until_non_inferior(windows: Iterator[Arms], asked: Design) -> int:
    process, requests = MarginProcess(), 0
    for window in windows:
        process = process.observe(asked, 0, {"all": window})
        requests += window.canary.requests
        if process.log_e() >= math.log(20) or requests > 20_000:
            return requests
    return requests


@pytest.mark.parametrize(
    ("rate", "canary_requests", "median", "p90"),
    [(0.2, 3, 27, 46), (0.05, 3, 127, 255), (0.02, 3, 610, 1251), (0.2, 30, 108, 120), (0.05, 30, 212, 360)],
)
def test_canary_requests_until_rollback(
    rng: np.random.Generator, rate: float, canary_requests: int, median: float, p90: float
) -> None:
    """Weight 10 %, stable .5 %, α .0045, windows of 3 and of 30 canary requests."""
    found = [
        requests_until_regression(
            ((0, arms(rng, canary_requests, 0.1, rate, 0.005)) for _ in itertools.count()),
            design(),
            0.0045,
            RegressionProcess(),
        )
        for _ in range(200)
    ]

    assert np.median(found) <= 1.2 * median
    assert np.percentile(found, 90) <= 1.25 * p90


@pytest.mark.parametrize("requests", [50, 500])
def test_a_healthy_canary_is_not_rolled_back(rng: np.random.Generator, requests: int) -> None:
    """40 looks over a ladder, 1 % errors everywhere: α is .005 for errors and floor, measured ≤ .2 % for all gates."""
    releases, false = 1000, 0
    for _ in range(releases):
        gate = ErrorsGate(max_ratio=1.0, margin=0.01, floor=0.95, steps=len(LADDER))
        for step, weight in enumerate(LADDER):
            for _ in range(10):
                canary = int(rng.binomial(requests, weight))
                gate = gate.observe(Window(step, arm(rng, canary, 0.01), arm(rng, requests - canary, 0.01)))
        false += gate.verdict().outcome is Outcome.regression

    assert false <= likely_at_most(0.002, releases)


@pytest.mark.parametrize(("canary_requests", "weight"), [(5, 0.1), (30, 0.1), (50, 0.5)])
def test_bursts_of_five_inside_a_window_raise_no_alarm(
    rng: np.random.Generator, canary_requests: int, weight: float
) -> None:
    """A/A with whole bursts at one arm, α .005: ≤ .15 %, where counting every event alarms in 14–35 %."""
    alarms = {5.0: 0, 1.0: 0}
    for kappa, repetitions in ((5.0, 300), (1.0, 40)):
        asked = design(kappa=kappa)
        for _ in range(repetitions):
            windows = itertools.islice(bursty(rng, canary_requests, weight), 300)
            process = RegressionProcess()
            log_e = [0.0]
            for window in windows:
                process = process.observe(asked, 0, {"all": window})
                log_e.append(process.log_e(asked))
            alarms[kappa] += max(log_e) >= -math.log(0.005)

    assert alarms[5.0] <= likely_at_most(0.0015, 300)
    assert alarms[1.0] >= 2


def bursty(rng: np.random.Generator, canary: int, weight: float) -> Iterator[Arms]:
    """Windows at 1 % bad requests that come in fives, each five at one arm."""
    stable = round(canary * (1 - weight) / weight)
    while True:
        bursts = rng.poisson(0.01 * (canary + stable) / 5)
        hits = rng.binomial(bursts, weight)
        yield Arms(Arm(canary, min(canary, 5 * hits)), Arm(stable, min(stable, 5 * (bursts - hits))))


def test_a_canary_at_the_margin_is_rarely_promoted_while_base_and_share_move(rng: np.random.Generator) -> None:
    """Share 5 → 50 % while the base rate halves: any step finding it non-inferior counts; the limit is 5 %."""
    releases, promoted = 250, 0
    asked = design()
    for _ in range(releases):
        process, peak = MarginProcess(), 0.0
        for window_number in range(600):
            progress = window_number / 600
            weight, base = 0.05 + 0.45 * progress, 0.02 * (1 - progress / 2)
            process = process.observe(asked, 0, {"all": arms(rng, 5, weight, base + 0.01, base)})
            peak = max(peak, process.log_e())
        promoted += peak >= math.log(20)

    assert promoted <= likely_at_most(0.05, releases)


def test_strata_at_the_margin_are_rarely_promoted(rng: np.random.Generator) -> None:
    """Two strata, one better and one worse: on average over the canary's requests at the margin."""
    releases, promoted = 200, 0
    asked = Design(LATENCY, 1.0, 0.03, 0.1, 1.0, 1.0, steps=4, strata=("short", "long"))
    for _ in range(releases):
        process, peak = MarginProcess(), 0.0
        for _ in range(300):
            window = {"short": arms(rng, 4, 0.2, 0.02, 0.03), "long": arms(rng, 4, 0.2, 0.22, 0.15)}
            process = process.observe(asked, 0, window)
            peak = max(peak, process.log_e())
        promoted += peak >= math.log(20)

    assert promoted <= likely_at_most(0.05, releases)


@pytest.mark.parametrize(
    ("base", "median", "p90"), [(0.0, 439, 442), (0.005, 728, 1516), (0.01, 1068, 2751)], ids=["0", ".5 %", "1 %"]
)
def test_canary_requests_until_non_inferior(rng: np.random.Generator, base: float, median: float, p90: float) -> None:
    """Margin 1 point, independent events, weight 10 %."""
    found = [
        requests_until_non_inferior((arms(rng, 5, 0.1, base, base) for _ in itertools.count()), design())
        for _ in range(200)
    ]

    assert np.median(found) == pytest.approx(median, rel=0.2)
    assert np.percentile(found, 90) <= 1.25 * p90


def test_a_regression_that_only_load_brings_out(rng: np.random.Generator) -> None:
    """Healthy for 10 000 canary requests, then 5 % errors at 50 %: found after 402 with starts, 1 765 with only one."""
    with_starts: list[int] = []
    one_start: list[int] = []
    for _ in range(60):
        process = RegressionProcess()
        for step, (requests, weight) in enumerate(((1000, 0.05), (3000, 0.1), (6000, 0.25))):
            for _ in range(requests // 30):
                process = process.observe(design(), step, {"all": arms(rng, 30, weight, 0.005, 0.005)})
        for step, found in ((3, with_starts), (2, one_start)):
            late = ((step, arms(rng, 2, 0.5, 0.05, 0.005)) for _ in itertools.count())
            found.append(requests_until_regression(late, design(), 0.0045, process))

    assert np.median(with_starts) <= 1.2 * 402
    assert np.median(one_start) >= 1.5 * np.median(with_starts)


def test_a_soak_finds_errors_by_its_holdback_of_a_tenth(rng: np.random.Generator) -> None:
    """20 requests/s, .5 → 5 % errors: 140 s at the median."""
    seconds = []
    for _ in range(60):
        process, soak = RegressionProcess(), len(LADDER)
        for step, weight in enumerate(LADDER):
            for _ in range(20):
                process = process.observe(design(), step, {"all": arms(rng, 10, weight, 0.005, 0.005)})
        windows = ((soak, arms(rng, 18, 0.9, 0.05, 0.005)) for _ in itertools.count())
        seconds.append(requests_until_regression(windows, design(), 0.0045, process) / 18)

    assert np.median(seconds) <= 1.25 * 140


def test_without_holdback_bursts_at_the_ceilings_rate_raise_no_alarm(rng: np.random.Generator) -> None:
    releases, alarms = 300, 0
    for _ in range(releases):
        process, peak = RegressionProcess(), 0.0
        for _ in range(150):
            bursts = int(rng.binomial(4, 0.05))
            process = process.observe(design(), 4, {"all": Arms(Arm(20, 5 * bursts), None)})
            peak = max(peak, process.log_e(design()))
        alarms += peak >= -math.log(0.0045)

    assert alarms <= likely_at_most(0.0045, releases)


def test_without_holdback_a_broken_version_is_found_by_the_ceiling(rng: np.random.Generator) -> None:
    """30 % bad where 5 % are allowed, windows of 20 requests, bursts of five allowed for."""
    found = []
    for _ in range(50):
        broken = ((4, Arms(arm(rng, 20, 0.3), None)) for _ in itertools.count())
        found.append(requests_until_regression(broken, design(), 0.0045, RegressionProcess()))

    assert np.percentile(found, 90) <= 160


def answers(rng: np.random.Generator, better: float, worse: float, category: str = "all") -> Pair:
    luck = rng.random()
    canary, stable = (1.0, 0.0) if luck < better else (0.0, 1.0) if luck < better + worse else (1.0, 1.0)
    return Pair("p", category, canary, stable)


@pytest.mark.parametrize(
    ("better", "worse", "median"), [(0.04, 0.14, 240), (0.02, 0.40, 36)], ids=["-10 points", "-38 points"]
)
def test_pairs_until_a_worse_version_is_stopped(
    rng: np.random.Generator, better: float, worse: float, median: float
) -> None:
    found = []
    for _ in range(200):
        gate = QualityGate(margin=0.05, floor=0.6, categories=("all",))
        while gate.log_e_regression < -math.log(gate.alpha_regression):
            gate = gate.observe(answers(rng, better, worse))
        found.append(gate.scores.pairs)

    assert np.median(found) == pytest.approx(median, rel=0.2)


def test_equal_quality_is_rarely_stopped_and_a_drop_by_the_margin_rarely_passes(rng: np.random.Generator) -> None:
    releases, stopped, passed = 300, 0, 0
    for _ in range(releases):
        equal = QualityGate(margin=0.05, floor=0.6, categories=("all",))
        at_margin, peak = equal, 0.0
        for _ in range(400):
            equal = equal.observe(answers(rng, 0.1, 0.1))
            at_margin = at_margin.observe(answers(rng, 0.05, 0.1))
            peak = max(peak, at_margin.verdict().numbers["e_non_inferior"])
        stopped += equal.verdict().outcome is Outcome.regression
        passed += peak >= 20

    assert stopped <= likely_at_most(0.002, releases)
    assert passed <= likely_at_most(0.05, releases)


def test_one_lost_category_of_eight_is_found(rng: np.random.Generator) -> None:
    """−30 points in one category: within 800 pairs in nine of ten, within 1 600 always."""
    categories = tuple("abcdefgh")
    found = []
    for _ in range(60):
        gate = QualityGate(margin=0.05, floor=0.6, categories=categories)
        while gate.log_e_category < -math.log(gate.alpha_category) and gate.scores.pairs < 1600:
            category = categories[rng.integers(8)]
            gate = gate.observe(answers(rng, 0.02, 0.32 if category == "a" else 0.02, category))
        found.append(gate.scores.pairs)

    assert np.mean(np.array(found) <= 800) >= 0.75
    assert np.mean(np.array(found) < 1600) >= 0.97


@pytest.mark.parametrize(("old", "new", "median"), [(1, 5, 170), (5, 10, 318), (10, 25, 97), (25, 50, 73)])
def test_requests_until_the_share_agrees(rng: np.random.Generator, old: int, new: int, median: float) -> None:
    found = []
    for _ in range(150):
        gate = ShareGate(old, new)
        while not gate.agrees:
            canary = int(rng.random() < new / 100)
            gate = gate.observe(StartedWindow(canary, 1 - canary))
        found.append(gate.canary + gate.stable)

    assert np.median(found) == pytest.approx(median, rel=0.2)


def test_a_share_that_agrees_is_seldom_doubted(rng: np.random.Generator) -> None:
    releases, doubted = 200, 0
    for _ in range(releases):
        gate = ShareGate(5, 10)
        for _ in range(150):
            canary = int(rng.binomial(20, 0.1))
            before = gate
            gate = gate.observe(StartedWindow(canary, 20 - canary))
            doubted += before.agrees and not gate.agrees

    assert doubted <= likely_at_most(0.001, releases)


def test_canary_requests_until_slowness_is_found(rng: np.random.Generator) -> None:
    """5 → 10 % slow at a weight of 10 %: one process at α .05 needs 179–213, the gate with strata 458–528."""
    one = Design(LATENCY, 1.0, 0.03, 0.1, 1.0, 1.0, steps=4)
    single = [
        requests_until_regression(
            ((0, arms(rng, 3, 0.1, 0.1, 0.05)) for _ in itertools.count()), one, 0.05, RegressionProcess()
        )
        for _ in range(100)
    ]
    gates = [until_slow(rng) for _ in range(40)]

    assert np.median(single) <= 1.2 * 213
    assert np.median(gates) <= 1.2 * 528


def until_slow(rng: np.random.Generator) -> int:
    """Canary requests until the whole gate finds one slow metric of three, in three strata."""
    strata = ("short", "medium", "long")
    gate = LatencyGate(dict.fromkeys(("ttft", "tpot", "e2e"), strata), margin=0.03, ceiling=0.1, steps=4)
    requests = 0
    while gate.log_e_regression < -math.log(gate.alpha_regression) and requests < 5000:
        split = rng.multinomial(6, (1 / 3,) * 3)
        rates = {"ttft": 0.1, "tpot": 0.05, "e2e": 0.05}
        metrics = {
            metric: {
                name: Arms(arm(rng, int(n), rate), arm(rng, 18, 0.05)) for name, n in zip(strata, split, strict=True)
            }
            for metric, rate in rates.items()
        }
        gate = gate.observe(LatencyWindow(0, metrics))
        requests += 6
    return requests
