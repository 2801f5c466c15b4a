"""Bands around a distribution: the published width, and their promise kept at all times at once."""

from __future__ import annotations

import math

import numpy
import pytest

from sluice.ledger.report.bands import band, constant, radius

REPETITIONS = 400


@pytest.mark.parametrize(("alpha", "published"), [(0.05, 8.123), (0.025, 8.623), (0.01, 9.284), (0.005, 9.784)])
def test_the_constant_is_the_published_one(alpha: float, published: float) -> None:
    assert constant(alpha) == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize(("count", "published"), [(300, 0.155), (1_000, 0.086), (10_000, 0.0275), (100_000, 0.0088)])
def test_the_radius_is_the_published_one(count: int, published: float) -> None:
    assert radius(count) == pytest.approx(published, rel=0.01)


def ever_outside(alpha: float, factor: float, until: int) -> float:
    """Share of repetitions in which a band of `factor` times the radius ever misses the uniform distribution."""
    rng = numpy.random.default_rng(5)
    looks = sorted({*range(1, 50), *(int(1.05**k) for k in range(80, 1000) if 50 <= 1.05**k <= until)})
    missed = 0
    for values in rng.random((REPETITIONS, until)):
        distances = [_distance(numpy.sort(values[:look])) for look in looks]
        missed += any(distance > factor * radius(look, alpha) for look, distance in zip(looks, distances, strict=True))
    return missed / REPETITIONS


def _distance(ordered: numpy.typing.NDArray[numpy.float64]) -> float:
    """Kolmogorov's, from the uniform distribution."""
    ranks = numpy.arange(len(ordered) + 1) / len(ordered)
    return float(max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max()))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_looking_all_the_time_leaves_the_band_no_oftener_than_promised(alpha: float) -> None:
    assert ever_outside(alpha, 1.0, 3000) <= alpha


@pytest.mark.slow
def test_half_the_width_would_not_hold() -> None:
    """Else the test above could not fail: a fixed-n band is left by whoever looks often enough."""
    assert ever_outside(0.05, 0.5, 3000) > 0.05


def test_a_band_stays_within_0_and_1_and_around_the_share() -> None:
    points = band([(0.1, 2), (0.5, 60), (math.inf, 100)])
    assert [point.share for point in points] == [0.02, 0.6, 1.0]
    assert all(0.0 <= point.low <= point.share <= point.high <= 1.0 for point in points)
    assert points[1].high - points[1].share == pytest.approx(radius(100))


def test_no_observation_has_no_band() -> None:
    assert band([]) == ()
    assert band([(0.1, 0), (math.inf, 0)]) == ()
    assert radius(0) == 1.0
