import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge.regression import Alternative
from sluice.judge.starts import StartMixture

PAIR = (Alternative(2.0, 0.25), Alternative(4.0, 0.75))
increment = st.tuples(st.floats(-3, 3), st.floats(-3, 3))


def e_by_definition(windows: list[tuple[int, tuple[float, float]]], soak_step: int) -> float:
    """Σ_j π_j Σ_s ω_s Π_{t ≥ s} e^{L_j,t}: the starts one by one."""
    steps = [step for step, _ in windows]
    later = soak_step - steps[0]
    first_of = {step: steps.index(step) for step in dict.fromkeys(steps)}
    total = 0.0
    for j, (_, weight) in enumerate(PAIR):
        for step in range(steps[0], soak_step + 1):
            start = 0.7 if step == steps[0] else 0.3 / later
            since = first_of.get(step, len(windows))
            total += weight * start * math.exp(sum(ups[j] for _, ups in windows[since:]))
    return total


@given(st.lists(st.tuples(st.integers(0, 1), increment), min_size=1, max_size=12))
@settings(deadline=None)
def test_every_start_keeps_its_own_wealth(moves: list[tuple[int, tuple[float, float]]]) -> None:
    step, windows = 0, []
    for up, increments in moves:
        step = min(3, step + up)
        windows.append((step, increments))
    process = StartMixture()

    for at, increments in windows:
        process = process.advance(at, increments, soak_step=3)

    assert math.exp(process.log_e(PAIR)) == pytest.approx(e_by_definition(windows, 3))


def test_without_evidence_the_e_value_is_one() -> None:
    process = StartMixture()
    assert process.log_e(PAIR) == 0.0

    for step in (0, 0, 1, 2, 3):
        process = process.advance(step, (0.0, 0.0), soak_step=3)
        assert process.log_e(PAIR) == pytest.approx(0.0)


def test_a_late_start_does_not_pay_for_the_healthy_time_before() -> None:
    process = StartMixture()
    for _ in range(1000):
        process = process.advance(0, (-1.0, -1.0), soak_step=3)

    late = process.advance(1, (8.0, 8.0), soak_step=3)

    assert math.exp(late.log_e(PAIR)) == pytest.approx(0.1 * math.exp(8.0) + 0.2)


def test_going_back_to_an_earlier_step_is_no_new_start() -> None:
    process = StartMixture().advance(1, (0.0, 0.0), soak_step=3).advance(0, (0.0, 0.0), soak_step=3)

    assert (process.step, process.starts_to_come) == (1, 2)


def test_an_overwhelming_window_stays_a_number() -> None:
    process = StartMixture().advance(0, (5000.0, 4000.0), soak_step=3)

    assert process.log_e(PAIR) == pytest.approx(5000.0 + math.log(0.7 * 0.25))
