import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge import Arm, Arms, ErrorsGate, InvalidGate, Outcome, Window
from sluice.judge.floor import stable_requests_needed


def errors(**changes: Any) -> ErrorsGate:
    settings: dict[str, Any] = {"max_ratio": 1.0, "margin": 0.01, "floor": 0.95, "kappa_promote": 1.0} | changes
    return ErrorsGate(steps=3, **settings)


def after(gate: ErrorsGate, windows: list[Window]) -> ErrorsGate:
    for window in windows:
        gate = gate.observe(window)
    return gate


def healthy(step: int, times: int, stable: bool = True) -> list[Window]:
    return [Window(step, Arm(5, 0), Arm(45, 0) if stable else None)] * times


def failing(step: int, times: int, stable_bad: int = 0) -> list[Window]:
    return [Window(step, Arm(5, 2), Arm(45, stable_bad))] * times


def test_no_data_is_not_a_regression() -> None:
    verdict = errors().observe(Window(0, Arm(0, 0), Arm(500, 5))).verdict()

    assert verdict.outcome is Outcome.no_data
    assert verdict.sentence == ("errors: canary 0 of 0 requests bad, stable 5 of 500: nothing to judge by at this step")


def test_a_stable_version_without_requests_is_no_data() -> None:
    assert errors().observe(Window(0, Arm(500, 0), Arm(0, 0))).verdict().outcome is Outcome.no_data


def test_a_failing_canary_is_a_regression_within_few_requests() -> None:
    gate = after(errors(), failing(0, 4))

    verdict = gate.verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.sentence.startswith("errors: canary 8 of 20 requests bad, stable 0 of 180; e-value ")
    assert verdict.sentence.endswith(" ≥ 222")
    assert verdict.numbers["e_regression"] >= verdict.numbers["e_regression_limit"] == pytest.approx(1 / 0.0045)


def test_the_e_value_of_one_window_is_the_formula() -> None:
    gate = errors().observe(Window(0, Arm(10, 1), Arm(90, 0)))

    factors = [ratio * 100 / (10 * ratio + 90) for ratio in (2, 4, 10, 40)]
    assert math.exp(gate.log_e_regression) == pytest.approx(0.7 * sum(factors) / 4 + 0.3)


def test_a_shared_incident_is_no_regression() -> None:
    verdict = after(errors(), healthy(0, 20) + failing(0, 100, stable_bad=18)).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.numbers["e_floor"] < 10


def test_a_faultless_canary_is_non_inferior_after_439_requests() -> None:
    before, then = after(errors(), healthy(0, 87)), after(errors(), healthy(0, 88))

    assert before.verdict().outcome is Outcome.inconclusive
    assert then.verdict().outcome is Outcome.non_inferior
    assert then.verdict().sentence.startswith(
        "errors: canary 0 of 440 requests bad, stable 0 of 3960; at most 1 point more: e-value 20"
    )


def test_unmeasured_bursts_need_five_times_the_requests() -> None:
    gate = after(errors(kappa_promote=5.0), healthy(0, 430))

    assert gate.verdict().outcome is Outcome.inconclusive
    assert after(gate, healthy(0, 10)).verdict().outcome is Outcome.non_inferior


def test_a_new_step_is_judged_on_its_own_evidence() -> None:
    gate = after(errors(), healthy(0, 100))

    assert gate.observe(Window(1, Arm(0, 0), Arm(0, 0))).verdict().outcome is Outcome.no_data
    assert after(gate, healthy(1, 80)).verdict().outcome is Outcome.inconclusive
    assert after(gate, healthy(1, 88)).verdict().outcome is Outcome.non_inferior


def test_regression_looks_over_all_steps() -> None:
    gate = after(errors(), failing(0, 2))
    assert gate.verdict().outcome is Outcome.inconclusive

    verdict = after(gate, failing(1, 2)).verdict()

    assert verdict.outcome is Outcome.regression
    assert "canary 4 of 10 requests bad, stable 0 of 90 at this step (8 of 20 since the first)" in verdict.sentence


def test_a_regression_once_shown_stays() -> None:
    gate = after(errors(), failing(0, 4) + healthy(0, 500))

    assert gate.verdict().outcome is Outcome.regression


def test_non_inferiority_is_about_what_users_got() -> None:
    hidden = Window(0, Arm(5, 0), Arm(45, 0), users=Arms(Arm(5, 1), Arm(45, 0)))

    verdict = after(errors(), [hidden] * 100).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert "canary 100 of 500 requests bad" in verdict.sentence
    assert verdict.numbers["canary_bad"] == 0


def test_retries_cannot_hide_a_failing_canary() -> None:
    masked = Window(0, Arm(5, 2), Arm(45, 0), users=Arms(Arm(5, 0), Arm(45, 0)))

    assert after(errors(), [masked] * 100).verdict().outcome is Outcome.regression


def test_a_tolerated_ratio_still_has_a_floor() -> None:
    """Three times stable's rate may be tolerated, but not 20 % failures while stable keeps the floor of 90 %."""
    gate = errors(max_ratio=5.0, floor=0.9)

    verdict = after(gate, [Window(0, Arm(10, 2), Arm(90, 4))] * 150).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.numbers["e_regression"] < verdict.numbers["e_regression_limit"]
    assert "below the floor of 90 %" in verdict.sentence


def test_the_floor_does_not_roll_back_for_an_incident_that_stable_has_too() -> None:
    gate = errors(max_ratio=5.0, floor=0.9)
    healthy_first = [Window(0, Arm(10, 0), Arm(90, 1))] * 5

    verdict = after(gate, healthy_first + [Window(0, Arm(10, 4), Arm(90, 30))] * 150).verdict()

    assert verdict.outcome is Outcome.inconclusive


def test_a_block_of_the_floor_lasts_until_stable_can_say_as_much_as_one_failure() -> None:
    needed = stable_requests_needed(0.05, 1.0)

    assert 0.95**needed <= 0.05 < 0.95 ** (needed - 1)
    assert stable_requests_needed(0.05, 5.0) == pytest.approx(5 * needed, abs=5)


def test_a_first_release_is_judged_by_the_floor() -> None:
    """4.4/.05 = 88 faultless requests show that fewer than 5 % fail."""
    gate = after(errors(), healthy(0, 17, stable=False))
    assert gate.verdict().outcome is Outcome.inconclusive

    verdict = after(gate, healthy(0, 2, stable=False)).verdict()

    assert verdict.outcome is Outcome.non_inferior
    assert verdict.sentence.startswith("errors: canary 0 of 95 requests bad, allowed 5 %; fewer than allowed: e-value ")
    assert "stable_requests" not in verdict.numbers


def test_a_first_release_below_the_floor_is_a_regression() -> None:
    verdict = after(errors(), [Window(0, Arm(5, 2), None)] * 6).verdict()

    assert verdict.outcome is Outcome.regression
    assert "allowed 5 %; e-value" in verdict.sentence


def test_a_soak_without_holdback_goes_on_by_the_floor() -> None:
    gate = after(errors(), healthy(0, 200))

    assert after(gate, healthy(3, 20, stable=False)).verdict().outcome is Outcome.non_inferior
    broken = after(gate, [Window(3, Arm(20, 8), None)] * 6).verdict()
    assert broken.outcome is Outcome.regression


@pytest.mark.parametrize(
    "wrong", [{"floor": 1.0}, {"margin": 0.0}, {"max_ratio": 0.5}, {"kappa": 0.0}, {"kappa_promote": 0.5}]
)
def test_a_configuration_that_cannot_be_names_its_field(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidGate, match=rf"errors\.{next(iter(wrong))}"):
        errors(**wrong)


arm = st.integers(0, 20).flatmap(lambda n: st.integers(0, n).map(lambda bad: Arm(n, bad)))
window_lists = st.lists(st.builds(Window, st.integers(0, 3), arm, st.one_of(st.none(), arm)), max_size=20)


@given(window_lists)
@settings(deadline=None)
def test_observing_never_changes_the_gate_and_replaying_gives_the_same_bits(windows: list[Window]) -> None:
    gate = errors()
    before = repr(gate)

    first = [after(gate, windows[:n]).verdict() for n in range(len(windows) + 1)]

    assert repr(gate) == before
    assert after(gate, windows).verdict() == first[-1]
    assert all(math.isfinite(number) for verdict in first for number in verdict.numbers.values())
