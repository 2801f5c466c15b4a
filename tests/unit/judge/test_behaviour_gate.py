import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge import Answers, BehaviourGate, BehaviourWindow, InvalidEvidence, InvalidGate, Outcome
from tests.unit.judge.simulation import likely_at_most

EVENTS = ("empty", "repeated", "truncated")


def behaviour(**changes: Any) -> BehaviourGate:
    return BehaviourGate(events=EVENTS, steps=3, **changes)


def window(step: int = 0, stable: dict[str, int] | None = None, **canary: int) -> BehaviourWindow:
    """10 answers of the canary, 90 of stable, and how many of them showed which event."""
    return BehaviourWindow(step, Answers(10, canary), Answers(90, stable or {}))


def pair(canary: set[str], stable: set[str]) -> BehaviourWindow:
    """The two versions' answers to one prompt."""
    return BehaviourWindow(0, Answers(1, dict.fromkeys(canary, 1)), Answers(1, dict.fromkeys(stable, 1)))


def after(gate: BehaviourGate, windows: list[BehaviourWindow]) -> BehaviourGate:
    for one in windows:
        gate = gate.observe(one)
    return gate


def test_a_canary_that_truncates_more_is_a_regression_and_the_event_is_named() -> None:
    verdict = after(behaviour(), [window(truncated=4, empty=1, stable={"truncated": 1, "empty": 9})] * 6).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.sentence.startswith("behaviour: truncated 24 of 60 answers, stable 6 of 540; e-value ")
    assert verdict.numbers["truncated_canary"] == 24
    assert verdict.numbers["empty_stable"] == 54
    assert verdict.numbers["e_regression"] >= verdict.numbers["e_regression_limit"] == pytest.approx(4000)


def test_the_e_value_is_the_average_over_all_announced_events() -> None:
    gate = behaviour().observe(window(repeated=1))

    one_event = sum(rho * 100 / (10 * rho + 90) for rho in (1.6, 2.5, 5, 20)) / 4
    assert math.exp(gate.log_e_regression) == pytest.approx((1 + 0.7 * one_event + 0.3 + 1) / 3)


def test_equally_odd_answers_are_never_more_than_inconclusive() -> None:
    verdict = after(behaviour(), [window(truncated=1, stable={"truncated": 9})] * 500).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.numbers["e_regression"] < 2


def test_answers_without_anything_odd_are_inconclusive() -> None:
    verdict = after(behaviour(), [window()] * 50).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.sentence == "behaviour: empty 0 of 500 answers, stable 0 of 4500; e-value 1 < 4000"


def test_a_change_for_the_better_is_no_regression() -> None:
    verdict = after(behaviour(), [window(stable={"empty": 30, "truncated": 9})] * 100).verdict()

    assert verdict.outcome is Outcome.inconclusive


def test_a_tolerated_ratio_is_no_regression() -> None:
    twice = [window(truncated=2, stable={"truncated": 9})] * 50

    assert after(behaviour(max_ratio=2.0), twice).verdict().outcome is Outcome.inconclusive
    assert after(behaviour(), twice).verdict().outcome is Outcome.regression


def test_a_regression_once_shown_stays() -> None:
    gate = after(behaviour(), [window(truncated=5)] * 5 + [window(stable={"truncated": 50})] * 50)

    assert gate.verdict().outcome is Outcome.regression


def test_what_only_a_later_step_brings_is_found_without_paying_for_the_time_before() -> None:
    """4000 · 3 events · the start's share of a tenth: healthy time costs a constant, however long it was."""
    rare = window(stable={"truncated": 1})
    worse = [window(step=2, truncated=1)] * 20

    short, long = (after(behaviour(), [rare] * times + worse) for times in (100, 2000))

    assert short.log_e_regression == pytest.approx(long.log_e_regression)
    assert short.verdict().outcome is Outcome.regression


def test_a_window_without_an_answer_of_the_canary_is_carried() -> None:
    waiting = BehaviourWindow(0, Answers(0, {}), Answers(40, {"empty": 2}))
    joined = BehaviourWindow(0, Answers(10, {"empty": 1}), Answers(90, {"empty": 3}))
    rest = BehaviourWindow(0, Answers(10, {"empty": 1}), Answers(50, {"empty": 1}))

    assert behaviour().observe(waiting).verdict().outcome is Outcome.no_data
    assert after(behaviour(), [waiting, rest]).log_e_regression == behaviour().observe(joined).log_e_regression


def test_without_stable_nothing_is_asked_and_the_counts_are_shown() -> None:
    alone = BehaviourWindow(0, Answers(10, {"empty": 9}), None)

    verdict = after(behaviour(), [alone] * 20).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.sentence == "behaviour: empty 180 of 200 answers; nothing to compare with"
    assert verdict.numbers["empty_canary"] == 180
    assert "stable_completed" not in verdict.numbers


def test_without_answers_there_is_no_data() -> None:
    assert behaviour().verdict().outcome is Outcome.no_data
    assert behaviour().verdict().sentence == "behaviour: empty 0 of 0 answers; nothing to judge by"


def test_pairs_of_the_examination_are_windows_of_one_answer_each() -> None:
    gate = BehaviourGate(events=EVENTS, steps=0)

    worse = after(gate, [pair({"repeated"}, set())] * 17)
    alike = after(gate, [pair({"repeated"}, {"repeated"})] * 400)

    assert worse.verdict().outcome is Outcome.regression
    assert worse.verdict().sentence.startswith("behaviour: repeated 17 of 17 answers, stable 0 of 17; ")
    assert alike.verdict().outcome is Outcome.inconclusive


def test_an_event_that_was_not_announced_is_refused() -> None:
    for canary, stable in (({"long": 1}, {}), ({}, {"long": 1})):
        with pytest.raises(InvalidEvidence, match="'long' is none of empty, repeated, truncated"):
            behaviour().observe(BehaviourWindow(0, Answers(10, canary), Answers(10, stable)))


@pytest.mark.parametrize("count", [-1, 3])
def test_counts_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(InvalidEvidence, match=f"'empty': {count} of 2 completed"):
        Answers(2, {"empty": count})


@pytest.mark.parametrize("wrong", [{"max_ratio": 0.9}, {"kappa": 0.5}, {"steps": -1}, {"events": ()}])
def test_a_configuration_that_cannot_be_names_its_field(wrong: dict[str, Any]) -> None:
    fine: dict[str, Any] = {"events": EVENTS, "steps": 3}

    with pytest.raises(InvalidGate, match=rf"behaviour\.{next(iter(wrong))}"):
        BehaviourGate(**fine | wrong)


counts = st.integers(0, 9).flatmap(
    lambda n: st.builds(Answers, st.just(n), st.dictionaries(st.sampled_from(EVENTS), st.integers(0, n)))
)
window_lists = st.lists(
    st.builds(BehaviourWindow, st.integers(0, 3), counts, st.one_of(st.none(), counts)), max_size=15
)


@given(window_lists)
@settings(deadline=None, max_examples=40)
def test_observing_never_changes_the_gate_and_replaying_gives_the_same_bits(windows: list[BehaviourWindow]) -> None:
    gate = behaviour()
    before = repr(gate)

    first = [after(gate, windows[:n]).verdict() for n in range(len(windows) + 1)]

    assert repr(gate) == before
    assert after(gate, windows).verdict() == first[-1]
    assert all(math.isfinite(number) for verdict in first for number in verdict.numbers.values())


@pytest.mark.parametrize("requests", [10, 1_000_000])
def test_a_tick_takes_a_fraction_of_a_millisecond_however_many_answers(requests: int) -> None:
    """Measured .1 ms with eight events; the bound leaves room for a busy machine."""
    events = tuple("abcdefgh")
    odd = Answers(requests, dict.fromkeys(events, requests // 10))
    gate, durations = BehaviourGate(events=events, steps=3), []
    for _ in range(100):
        started = time.perf_counter()
        gate = gate.observe(BehaviourWindow(0, odd, odd))
        gate.verdict()
        durations.append(time.perf_counter() - started)

    assert min(durations) < 0.001


@pytest.mark.slow
@pytest.mark.parametrize(("kappa", "burst"), [(1.0, 1), (5.0, 5)], ids=["independent", "bursts of five"])
def test_equal_versions_are_rarely_a_regression(kappa: float, burst: int) -> None:
    """4 % odd answers of each kind in whole bursts at one version; a look after each window, at α = 5 %."""
    rng, releases, alarms = np.random.default_rng(7), 200, 0
    for _ in range(releases):
        gate = behaviour(kappa=kappa, alpha_regression=0.05)
        for _ in range(150):
            bursts = rng.poisson(0.04 * 100 / burst, size=3)
            ours = rng.binomial(bursts, 0.2)
            canary = {name: min(20, burst * int(n)) for name, n in zip(EVENTS, ours, strict=True)}
            stable = {name: min(80, burst * int(n)) for name, n in zip(EVENTS, bursts - ours, strict=True)}
            gate = gate.observe(BehaviourWindow(0, Answers(20, canary), Answers(80, stable)))
        alarms += gate.verdict().outcome is Outcome.regression

    assert alarms <= likely_at_most(0.05, releases)


@pytest.mark.slow
def test_pairs_of_equal_versions_are_rarely_a_regression_though_prompts_differ() -> None:
    """Prompts differ in how odd their answers are, which both versions share; at α = 5 %."""
    rng, examinations, alarms = np.random.default_rng(8), 200, 0
    for _ in range(examinations):
        gate = BehaviourGate(events=EVENTS, steps=0, alpha_regression=0.05)
        for chance in rng.beta(0.3, 1.2, size=200):
            odd = [{name for name in EVENTS if rng.random() < chance} for _ in range(2)]
            gate = gate.observe(pair(*odd))
        alarms += gate.verdict().outcome is Outcome.regression

    assert alarms <= likely_at_most(0.05, examinations)


@pytest.mark.slow
def test_one_odd_event_of_eight_is_found_in_live_traffic() -> None:
    """Truncation 1 → 5 % at a weight of 10 %, as shipped: several hundred answers of the canary."""
    rng, found = np.random.default_rng(9), []
    events = (*EVENTS, "refusal", "language_switch", "invalid_json", "broken_think", "long")
    for _ in range(40):
        gate = BehaviourGate(events=events, steps=3)
        answers = 0
        while gate.verdict().outcome is not Outcome.regression and answers < 3000:
            canary = {name: int(rng.binomial(10, 0.05 if name == "truncated" else 0.01)) for name in events}
            stable = {name: int(rng.binomial(90, 0.01)) for name in events}
            gate = gate.observe(BehaviourWindow(0, Answers(10, canary), Answers(90, stable)))
            answers += 10
        found.append(answers)

    assert 250 <= np.median(found) <= 450
    assert max(found) < 3000
