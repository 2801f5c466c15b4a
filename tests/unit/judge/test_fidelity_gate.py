import math

import numpy as np
import pytest

from sluice.judge import FidelityGate, InvalidEvidence, InvalidGate, Outcome
from tests.unit.judge.simulation import likely_at_most


def after(gate: FidelityGate, divergences: list[float]) -> FidelityGate:
    for divergence in divergences:
        gate = gate.observe(divergence)
    return gate


def test_without_a_limit_the_divergence_is_only_reported() -> None:
    verdict = after(FidelityGate(limit=None), [0.2, 0.4, 9.0]).verdict()

    assert verdict.outcome is Outcome.inconclusive
    assert verdict.sentence == "fidelity: 3.2 nats per token over 3 prompts, at most 9; no limit is set"
    assert verdict.numbers == {"prompts": 3, "mean": pytest.approx(3.2), "maximum": 9.0}


def test_without_a_prompt_there_is_no_data() -> None:
    assert FidelityGate(limit=0.1).verdict().outcome is Outcome.no_data


def test_a_mean_above_the_limit_is_a_regression() -> None:
    verdict = after(FidelityGate(limit=0.05), [0.2] * 8).verdict()

    assert verdict.outcome is Outcome.regression
    assert verdict.sentence.startswith(
        "fidelity: 0.2 nats per token over 8 prompts, at most 0.2; more than 0.05: e-value"
    )


def test_a_mean_below_the_limit_is_inconclusive() -> None:
    assert after(FidelityGate(limit=0.05), [0.04] * 1000).verdict().outcome is Outcome.inconclusive


def test_the_e_value_is_the_mean_of_the_bets() -> None:
    gate = after(FidelityGate(limit=0.1), [0.3])

    assert math.exp(gate.log_e_regression) == pytest.approx(sum(1 + stake * 2 for stake in (0.15, 0.4, 0.8)) / 3)


def test_a_few_prompts_that_went_astray_decide_nothing() -> None:
    gate = after(FidelityGate(limit=0.05), [100.0] * 4)

    assert gate.verdict().outcome is Outcome.inconclusive
    assert gate.observe(100.0).verdict().outcome is Outcome.regression


def test_a_regression_once_shown_stays() -> None:
    gate = after(FidelityGate(limit=0.05), [0.3] * 8 + [0.0] * 500)

    assert gate.verdict().outcome is Outcome.regression


@pytest.mark.parametrize("divergence", [-0.1, math.nan, math.inf])
def test_a_divergence_that_cannot_be_is_refused(divergence: float) -> None:
    with pytest.raises(InvalidEvidence, match="divergence"):
        FidelityGate(limit=None).observe(divergence)


def test_a_limit_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidGate, match=r"fidelity\.limit: 0"):
        FidelityGate(limit=0.0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_only_a_limit_needs_a_part_of_the_error_rate(alpha: float) -> None:
    assert FidelityGate(limit=None, alpha_regression=alpha).observe(0.1).verdict().outcome is Outcome.inconclusive
    with pytest.raises(InvalidGate, match=r"fidelity\.alpha_regression"):
        FidelityGate(limit=0.1, alpha_regression=alpha)


def divergences(rng: np.random.Generator, mean: float, prompts: int) -> list[float]:
    """Means over tokens differ between prompts by a factor of two or so: log-normal, σ = .7."""
    return [float(x) for x in rng.lognormal(math.log(mean) - 0.7**2 / 2, 0.7, prompts)]


@pytest.mark.parametrize(("times_limit", "tens"), [(2.0, 50), (4.0, 20)])
def test_a_bad_quantization_is_found_in_tens_of_prompts(times_limit: float, tens: int) -> None:
    """As shipped, α .0005; the limit lies between noise and damage, here at a half and a quarter of the damage."""
    rng, needed = np.random.default_rng(4), []
    for _ in range(60):
        gate = FidelityGate(limit=0.05)
        for divergence in divergences(rng, 0.05 * times_limit, 200):
            gate = gate.observe(divergence)
            if gate.verdict().outcome is Outcome.regression:
                break
        needed.append(gate.prompts)

    assert np.percentile(needed, 90) <= tens


def test_noise_at_the_limit_keeps_the_level() -> None:
    """A look after each of 100 prompts with the mean exactly at the limit, α = 5 %."""
    rng, examinations, alarms = np.random.default_rng(5), 200, 0
    for _ in range(examinations):
        gate = after(FidelityGate(limit=0.05, alpha_regression=0.05), divergences(rng, 0.05, 100))
        alarms += gate.verdict().outcome is Outcome.regression

    assert alarms <= likely_at_most(0.05, examinations)


def test_noise_below_the_limit_is_hardly_ever_a_regression() -> None:
    rng = np.random.default_rng(6)

    gates = [after(FidelityGate(limit=0.05), divergences(rng, 0.02, 100)) for _ in range(100)]

    assert not any(gate.verdict().outcome is Outcome.regression for gate in gates)
