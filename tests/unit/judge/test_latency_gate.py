import math
import time
from typing import Any

import pytest

from sluice.judge import (
    Arm,
    Arms,
    ErrorsGate,
    InvalidEvidence,
    InvalidGate,
    LatencyGate,
    LatencyWindow,
    Outcome,
    Window,
)

METRICS = ("ttft", "tpot", "e2e")
LENGTHS = ("short", "long")


def latency(strata: tuple[str, ...] = ("all",), **changes: Any) -> LatencyGate:
    settings: dict[str, Any] = {"margin": 0.03, "ceiling": 0.1} | changes
    return LatencyGate(strata=dict.fromkeys(METRICS, strata), steps=3, **settings)


def window(step: int = 0, stable: int | None = 1, **slow: int) -> LatencyWindow:
    """10 canary requests, of which `slow` by metric; 90 of stable, of which `stable`."""
    other = None if stable is None else Arm(90, stable)
    return LatencyWindow(step, {name: {"all": Arms(Arm(10, slow.get(name, 0)), other)} for name in METRICS})


def after(gate: LatencyGate, windows: list[LatencyWindow]) -> LatencyGate:
    for one in windows:
        gate = gate.observe(one)
    return gate


def test_one_slow_metric_is_a_regression_and_is_named() -> None:
    verdict = after(latency(), [window(tpot=4)] * 5).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.sentence.startswith("latency: tpot: canary 20 of 50 requests slow, stable 5 of 450; e-value ")


def test_the_e_value_is_the_average_over_the_metrics() -> None:
    gate = latency().observe(window(stable=0, e2e=1))

    one_event = sum(w * rho * 100 / (10 * rho + 90) for rho, w in ((1.6, 0.3), (2.2, 0.5), (5.0, 0.2)))
    assert math.exp(gate.log_e_regression) == pytest.approx((1 + 1 + 0.7 * one_event + 0.3) / 3)


def test_strata_are_multiplied_for_three_quarters_and_averaged_for_one() -> None:
    gate = LatencyGate(strata={"e2e": LENGTHS}, margin=0.03, ceiling=0.1, steps=3)
    arms = {"short": Arms(Arm(10, 1), Arm(90, 0)), "long": Arms(Arm(50, 0), Arm(50, 1))}

    e = math.exp(gate.observe(LatencyWindow(0, {"e2e": arms})).log_e_regression)

    joint = short = long = 0.0
    for rho, weight in ((1.6, 0.3), (2.2, 0.5), (5.0, 0.2)):
        bad_canary, bad_stable = rho * 100 / (10 * rho + 90), 100 / (50 * rho + 50)
        joint += weight * bad_canary * bad_stable
        short += weight * bad_canary
        long += weight * bad_stable
    assert e == pytest.approx(0.3 + 0.7 * (0.75 * joint + 0.25 * (short + long) / 2))


def test_a_mix_shift_with_equal_versions_is_no_regression() -> None:
    """The canary gets mostly long requests, which are slow with either version."""
    gate = LatencyGate(strata={"e2e": LENGTHS}, margin=0.03, ceiling=0.1, steps=3)
    shifted = {"short": Arms(Arm(20, 0), Arm(800, 8)), "long": Arms(Arm(80, 16), Arm(100, 20))}

    for _ in range(20):
        gate = gate.observe(LatencyWindow(0, {"e2e": shifted}))

    assert gate.verdict().outcome is not Outcome.regression


def test_every_metric_must_be_shown_to_be_non_inferior() -> None:
    fast = after(latency(), [window(stable=0)] * 20)
    one_missing = [LatencyWindow(0, {name: {"all": Arms(Arm(10, 0), Arm(90, 0))} for name in ("ttft", "e2e")})]

    assert fast.verdict().outcome is Outcome.non_inferior
    assert after(latency(), one_missing * 20).verdict().outcome is Outcome.inconclusive


def test_the_weakest_metric_is_told() -> None:
    verdict = after(latency(), [window(stable=3, ttft=1)] * 8).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.sentence.startswith(
        "latency: ttft: canary 8 of 80 requests slow, stable 24 of 720; at most 3 points"
    )


def test_a_new_step_needs_its_own_evidence() -> None:
    gate = after(latency(), [window(stable=0)] * 20)

    assert gate.observe(LatencyWindow(1, {})).verdict().outcome is Outcome.no_data
    assert gate.observe(window(step=1, stable=0)).verdict().outcome is Outcome.inconclusive


def test_without_stable_the_ceiling_decides() -> None:
    fast = after(latency(), [window(step=3, stable=None)] * 6).verdict()
    slow = after(latency(), [window(step=3, stable=None, ttft=5)] * 8).verdict()

    assert fast.outcome is Outcome.non_inferior
    assert slow.outcome is Outcome.regression
    assert "ttft: canary 40 of 80 requests slow, allowed 10 %; e-value" in slow.sentence


def test_a_metric_that_was_not_announced_is_refused() -> None:
    with pytest.raises(InvalidEvidence, match="'itl' is none of ttft, tpot, e2e"):
        latency().observe(LatencyWindow(0, {"itl": {}}))


def test_a_configuration_that_cannot_be_names_its_field() -> None:
    with pytest.raises(InvalidGate, match=r"latency\.ttft\.ceiling: 1\.0"):
        latency(ceiling=1.0)
    with pytest.raises(InvalidGate, match=r"latency\.strata"):
        LatencyGate(strata={}, margin=0.03, ceiling=0.1, steps=3)


def test_a_tick_of_all_gates_takes_milliseconds_however_long_the_release() -> None:
    """Measured 1–2 ms with four strata a metric; the bound leaves room for a busy machine."""
    lengths = ("short", "medium", "long", "longest")
    slow, errors = latency(strata=lengths), ErrorsGate(max_ratio=1.0, margin=0.01, floor=0.95, steps=3)
    arms = dict.fromkeys(lengths, Arms(Arm(5, 1), Arm(45, 4)))
    durations = []
    for _ in range(200):
        started = time.perf_counter()
        slow, errors = (
            slow.observe(LatencyWindow(0, dict.fromkeys(METRICS, arms))),
            errors.observe(Window(0, Arm(5, 0), Arm(45, 1))),
        )
        slow.verdict(), errors.verdict()
        durations.append(time.perf_counter() - started)

    assert min(durations[-100:]) < 0.01
