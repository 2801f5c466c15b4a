import pytest

from sluice.judge import pairs_needed, requests_needed, smallest_certifiable_margin


def test_faultless_versions_need_a_fixed_number_of_requests() -> None:
    needed = requests_needed(margin=0.01, base_rate=0.0, ratio=1 / 9)

    assert needed.median == needed.p99 == pytest.approx(439, rel=0.02)


@pytest.mark.parametrize(("base_rate", "median"), [(0.005, 728), (0.01, 1068)])
def test_requests_grow_with_the_base_rate_as_measured(base_rate: float, median: float) -> None:
    assert requests_needed(margin=0.01, base_rate=base_rate, ratio=1 / 9).median == pytest.approx(median, rel=0.2)


def test_bursts_multiply_the_requests() -> None:
    plain, bursty = (requests_needed(0.01, 0.005, 1 / 9, kappa=kappa) for kappa in (1.0, 5.0))

    assert bursty == pytest.approx([5 * count for count in plain])
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
