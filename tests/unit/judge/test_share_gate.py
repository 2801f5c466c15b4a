import math

import pytest

from sluice.judge import InvalidEvidence, InvalidGate, Outcome, ShareGate, StartedWindow
from sluice.judge.share_gate import log_e_weight


def after(gate: ShareGate, canary: int, stable: int, times: int = 1) -> ShareGate:
    for _ in range(times):
        gate = gate.observe(StartedWindow(canary, stable))
    return gate


def test_the_e_value_is_the_beta_mixture() -> None:
    # One request of the canary at 10 %, k = 100: (10/100)/.1 = 1; two: (10·11)/(100·101)/.01.
    assert math.exp(log_e_weight(1, 0, 0.1)) == pytest.approx(1.0)
    assert math.exp(log_e_weight(2, 0, 0.1)) == pytest.approx(10 * 11 / (100 * 101) / 0.01)


@pytest.mark.parametrize("weight", [0.01, 0.1, 0.5])
def test_its_expectation_is_one(weight: float) -> None:
    n = 40
    total = sum(
        math.comb(n, k) * weight**k * (1 - weight) ** (n - k) * math.exp(log_e_weight(k, n - k, weight))
        for k in range(n + 1)
    )

    assert total == pytest.approx(1.0)


def test_before_any_request_there_is_no_data() -> None:
    assert ShareGate(5, 25).verdict().outcome is Outcome.no_data


def test_the_share_agrees_once_the_old_weight_is_rejected() -> None:
    early, late = after(ShareGate(5, 25), 1, 3), after(ShareGate(5, 25), 1, 3, times=20)

    assert (early.agrees, early.verdict().outcome) == (False, Outcome.inconclusive)
    assert (late.agrees, late.verdict().outcome) == (True, Outcome.non_inferior)
    assert late.verdict().sentence == "share: 25 % of 80 requests started at the canary, as written (25 %)"


def test_the_old_share_never_agrees_and_contradicts() -> None:
    gate = after(ShareGate(5, 25), 1, 19, times=20)

    assert not gate.agrees
    assert gate.verdict().outcome is Outcome.no_data
    assert "which contradicts the weight of 25 %" in gate.verdict().sentence


def test_a_write_that_took_effect_late_agrees_in_the_end() -> None:
    lagging = after(ShareGate(5, 25), 1, 19, times=40)

    gate = after(lagging, 5, 15, times=20)

    assert not lagging.agrees
    assert gate.agrees
    assert gate.contradicted is None


def test_a_share_that_drifts_stops_agreeing_and_may_come_back() -> None:
    agreed = after(ShareGate(5, 25), 5, 15, times=10)

    drifted = after(agreed, 10, 10, times=30)
    restored = after(drifted, 5, 15, times=20)

    assert agreed.agrees
    assert not drifted.agrees
    assert drifted.verdict().outcome is Outcome.no_data
    assert restored.agrees


def test_the_first_exposure_needs_one_start_at_the_canary() -> None:
    gate = after(ShareGate(0, 5), 0, 30)
    assert not gate.agrees

    assert after(gate, 1, 10).agrees


def test_all_traffic_means_every_request() -> None:
    assert after(ShareGate(50, 100), 40, 0).agrees
    assert not after(ShareGate(50, 100), 39, 1).agrees


def test_weights_and_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidGate, match=r"share\.new_weight: 101"):
        ShareGate(5, 101)
    with pytest.raises(InvalidGate, match="no change"):
        ShareGate(5, 5)
    with pytest.raises(InvalidEvidence, match="negative"):
        StartedWindow(-1, 5)
