"""What the benchmark reckons of its samples, and what it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.judge.claims import Claim
from benchmarks.server.__main__ import exit_code
from benchmarks.server.claims import Measured, claims_of
from benchmarks.server.client import Sample
from benchmarks.server.comparison import CONCURRENCIES, OURS, SINGLE, TRANSFORMERS_SERVE, Model, Rounds, rotated
from benchmarks.server.drain import DrainFigures
from benchmarks.server.images import ImageFigures
from benchmarks.server.report import markdown, peers_of
from benchmarks.server.sides import Running
from benchmarks.server.soak import DEADLINE_SECONDS, Fate, SoakFigures, figures, poisson
from benchmarks.server.workload import random_asks

MODEL = Model("small", Path("small"), random_asks, {})
SOAK = SoakFigures(rate=6.0, sent=100, rejected=30, kept=70, memory_growth=0.01, memory_mb=700, reject_p95_ms=4)
IMAGE = ImageFigures((), 1_000_000, 1_500_000, 0.5, 3.0)
CLAIMS = {
    "tokens_vs_single_c16",
    "ttft_p95_vs_single_c16",
    "tokens_vs_transformers_serve_c16",
    "ttft_p95_vs_transformers_serve_c16",
    "tokens_vs_inprocess_c1",
    "soak_memory_growth",
    "reject_p95_ms",
    "accepted_kept_deadline",
    "refresh_pushed_overhead_mb",
    "refresh_build_overhead_seconds",
    "drain_lost_requests",
}


def sample(tokens_per_second: float, ttft: float) -> Sample:
    return Sample(tokens_per_second, ttft / 2, ttft)


def rounds() -> Rounds:
    """Three rounds, the second of them on a machine three times as slow."""
    slowness = (1.0, 3.0, 1.0)
    speeds = {OURS: (400, 0.1), SINGLE: (100, 1.0), TRANSFORMERS_SERVE: (320, 0.2)}
    samples = {
        (side, concurrency): [sample(speed / slow, ttft * slow) for slow in slowness]
        for side, (speed, ttft) in speeds.items()
        for concurrency in CONCURRENCIES
    }
    return Rounds(samples, [500 / slow for slow in slowness])


def measured() -> Measured:
    return Measured(MODEL, {"small": rounds()}, SOAK, DrainFigures(900, 0), IMAGE)


def claim(name: str, of: Measured) -> Claim:
    return next(one for one in claims_of(of) if one.name == name)


def test_ratios_are_of_one_round_so_that_a_slow_one_does_not_count() -> None:
    mixed = rounds()
    mixed.samples[SINGLE, 16][1:2] = [sample(10, 30.0)]  # type: ignore[index]
    assert mixed.tokens_ratio(SINGLE, 16) == pytest.approx(4.0)
    assert mixed.ttft_p95_ratio(SINGLE, 16) == pytest.approx(0.1)
    assert mixed.tokens_ratio("in-process", 1) == pytest.approx(0.8)


def test_every_claim_is_there() -> None:
    found = claims_of(measured())
    assert {one.name for one in found} == CLAIMS
    assert all(one.holds for one in found)


def test_what_was_not_measured_is_no_claim() -> None:
    names = {one.name for one in claims_of(replace(measured(), image=None))}
    assert CLAIMS - names == {"refresh_pushed_overhead_mb", "refresh_build_overhead_seconds"}


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("soak_memory_growth", replace(SOAK, memory_growth=0.06)),
        ("reject_p95_ms", replace(SOAK, reject_p95_ms=51)),
        ("accepted_kept_deadline", replace(SOAK, kept=69)),
    ],
)
def test_a_soak_can_fail_by_memory_refusals_and_deadlines(name: str, worse: SoakFigures) -> None:
    assert {one.name for one in claims_of(replace(measured(), soak=worse)) if not one.holds} == {name}


def test_a_lost_request_fails_the_benchmark() -> None:
    found = claims_of(replace(measured(), drain=DrainFigures(900, 1)))
    assert exit_code(found, image_is_missing=False) == 1


def test_an_image_that_could_not_be_measured_fails_it_unless_that_was_asked_for() -> None:
    found = claims_of(replace(measured(), image=None))
    assert exit_code(found, image_is_missing=True) == 2
    assert exit_code(found, image_is_missing=False) == 0


def test_the_tables_have_every_claim_side_and_concurrency() -> None:
    written = markdown(claims_of(measured()), {"small": rounds()})
    assert all(f"`{name}`" in written for name in CLAIMS)
    assert "| this server | 400, 100 ms | 400, 100 ms | 400, 100 ms | 400, 100 ms |" in written
    assert "| ratio to one `generate` at a time behind HTTP | 4.00 ×, 0.10 × |" in written
    assert "| ratio to `generate` in a loop, no server | 0.80 × | – | – | – |" in written


def test_the_file_has_every_sample() -> None:
    found = peers_of(measured())
    assert len(found["small"]["single, 16"]) == 3
    assert found["drain"] == {"requests": 900, "lost": 0}
    assert set(found) == {"small", "soak", "drain", "image"}


def test_each_side_is_first_in_turn() -> None:
    servers = [Running(name, "", "", 0) for name in "abc"]
    assert ["".join(one.name for one in rotated(servers, number)) for number in range(4)] == [
        "abc",
        "bca",
        "cab",
        "abc",
    ]


# --- the soak ---------------------------------------------------------------------------------------------------------


def test_memory_is_compared_from_after_the_warm_up_to_the_end() -> None:
    growing = [100] * 19 + [1000] * 21 + [1040] * 60
    assert figures(6.0, [Fate(429, 0.01)], growing).memory_growth == pytest.approx(0.04)


def test_one_sample_out_of_line_is_no_growth() -> None:
    steady = [1000] * 99 + [5000]
    assert figures(6.0, [Fate(429, 0.01)], steady).memory_growth == 0.0


def test_a_late_a_failed_and_a_broken_answer_did_not_keep_the_deadline() -> None:
    fates = [Fate(200, 1.0), Fate(200, DEADLINE_SECONDS + 1), Fate(504, 60.0), Fate(0, 1.0), Fate(429, 0.02)]
    found = figures(6.0, fates, [1000] * 10)
    assert (found.sent, found.rejected, found.accepted, found.kept) == (5, 1, 4, 1)
    assert found.kept_share == 0.25
    assert found.reject_p95_ms == pytest.approx(20.0)


def test_a_soak_without_a_refusal_shows_nothing_and_holds_nothing() -> None:
    none = figures(6.0, [Fate(200, 1.0)], [1000] * 10)
    assert not claim("reject_p95_ms", replace(measured(), soak=none)).holds
    assert peers_of(replace(measured(), soak=none))["soak"]["reject_p95_ms"] is None


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    moments = list(poisson(20.0, 200.0, seed=1))
    assert len(moments) == pytest.approx(4000, rel=0.05)
    assert moments == sorted(moments)
    assert moments[-1] < 200.0
