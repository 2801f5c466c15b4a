import numpy as np
import pytest

from sluice.judge import NOT_MEASURED, Arm, dispersion, dispersion_of_pods


def test_dispersion_is_the_variance_of_the_split_over_that_of_independent_events() -> None:
    windows = [(Arm(100, 4), Arm(100, 0)), (Arm(50, 1), Arm(150, 3))]

    measured = dispersion(windows)

    squares = (4 - 4 * 0.5) ** 2 + (1 - 4 * 0.25) ** 2
    assert measured.factor == pytest.approx(squares / (4 * 0.25 + 4 * 0.1875))
    assert measured.events == 8


def test_whole_bursts_at_one_pod_are_found() -> None:
    windows = [(Arm(100, 10), Arm(100, 0)), (Arm(100, 0), Arm(100, 10))] * 20

    measured = dispersion(windows)

    assert measured.factor == pytest.approx(10.0)
    assert (measured.kappa_errors, measured.kappa) == (10.0, 10.0)


def test_unmeasured_traffic_is_taken_as_bursts_of_five() -> None:
    assert (NOT_MEASURED.kappa_errors, NOT_MEASURED.kappa) == (5.0, 5.0)


def test_a_burst_factor_has_bounds() -> None:
    huge = dispersion([(Arm(1000, 500), Arm(1000, 0))])
    even = dispersion([(Arm(1000, 150), Arm(1000, 150))])

    assert (huge.kappa_errors, huge.kappa) == (20.0, 20.0)
    assert (even.kappa_errors, even.kappa) == (5.0, 1.0)


def test_windows_without_events_measure_nothing() -> None:
    assert dispersion([(Arm(100, 0), Arm(100, 0)), (Arm(0, 0), Arm(10, 3))]) == NOT_MEASURED


def test_two_named_pods_are_measured_as_a_pair() -> None:
    pairs = [(Arm(100, 4), Arm(100, 0)), (Arm(50, 1), Arm(150, 3)), (Arm(0, 0), Arm(10, 3))]

    of_pods = dispersion_of_pods([{"a": first, "b": second} for first, second in pairs])

    assert of_pods == dispersion(pairs)


def test_of_four_pods_each_adds_its_deviation() -> None:
    window = {"a": Arm(10, 2), "b": Arm(20, 0), "c": Arm(30, 1), "d": Arm(40, 1)}

    measured = dispersion_of_pods([window])

    squares = (2 - 0.4) ** 2 + (0 - 0.8) ** 2 + (1 - 1.2) ** 2 + (1 - 1.6) ** 2
    assert measured.factor == pytest.approx(squares / (4 * (0.1 * 0.9 + 0.2 * 0.8 + 0.3 * 0.7 + 0.4 * 0.6)))
    assert measured.events == 4


def test_pods_may_come_and_go_and_one_alone_measures_nothing() -> None:
    pair = {"a": Arm(100, 4), "b": Arm(100, 0)}

    assert dispersion_of_pods([{"a": Arm(100, 9)}, pair | {"c": Arm(0, 0)}]) == dispersion_of_pods([pair])
    assert dispersion_of_pods([{"a": Arm(100, 9)}]) == NOT_MEASURED


@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.1, 0.2, 0.3, 0.4)], ids=["two pods", "four unequal pods"])
def test_whole_bursts_have_their_size_as_the_factor_with_any_number_of_pods(
    shares: tuple[float, ...], burst: int
) -> None:
    rng = np.random.default_rng(30)
    requests = [int(1000 * share) for share in shares]
    windows = [
        {str(pod): Arm(n, burst * int(hits)) for pod, (n, hits) in enumerate(zip(requests, split, strict=True))}
        for split in rng.multinomial(4, shares, size=2000)
    ]

    assert dispersion_of_pods(windows).factor == pytest.approx(burst, rel=0.1)
