import pytest

from sluice.judge import NOT_MEASURED, Arm, dispersion


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
    assert (measured.kappa_errors, measured.kappa_latency, measured.kappa_promote) == (10.0, 10.0, 10.0)


def test_unmeasured_traffic_is_taken_as_bursts_of_five_where_it_matters() -> None:
    assert (NOT_MEASURED.kappa_errors, NOT_MEASURED.kappa_latency, NOT_MEASURED.kappa_promote) == (5.0, 1.0, 5.0)


def test_a_burst_factor_has_bounds() -> None:
    huge = dispersion([(Arm(1000, 500), Arm(1000, 0))])
    even = dispersion([(Arm(1000, 150), Arm(1000, 150))])

    assert (huge.kappa_errors, huge.kappa_promote) == (20.0, 20.0)
    assert (even.kappa_errors, even.kappa_latency, even.kappa_promote) == (5.0, 1.0, 1.0)


def test_windows_without_events_measure_nothing() -> None:
    assert dispersion([(Arm(100, 0), Arm(100, 0)), (Arm(0, 0), Arm(10, 3))]) == NOT_MEASURED
