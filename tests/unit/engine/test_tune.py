"""A policy played on recorded traffic: false alarms of equal versions, and how soon faults are found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy
import pytest
from numpy.random import Generator

from sluice.engine.evidence import window_record
from sluice.engine.gates import Calibration
from sluice.engine.pseudo_canary import Fault, dealt
from sluice.engine.recorded import Recorded, added, load, past, recorded
from sluice.engine.tune import End, Tuned, confidence_limits, looks, tune
from sluice.errors import BadInput
from sluice.judge import Dispersion
from sluice.policy import ReleasePolicy
from sluice.ports import Entry, Timing, Totals
from tests.fakes import World

TICK_SECONDS = 5.0
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def a_policy(**fields: Any) -> ReleasePolicy:
    return ReleasePolicy.model_validate(
        {
            "model": "arithmetic",
            "source": "dir://revisions",
            "image": {"repository": "models/arithmetic"},
            "serving": {"namespace": "ai", "host": "arithmetic.example.com"},
            "steps": [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s"}],
            "gates": {"quality": {"prompts": "p.jsonl"}, "errors": {"margin": 0.05}, "latency": {"margin": 0.1}},
            "tick": "5s",
            "max_hold": "10m",
            "soak": "30s",
            "lease": "1m",
            **fields,
        }
    )


def counts(requests: int, failed: int = 0, slow: int = 0) -> Totals:
    timings = {metric: {"short": Timing(requests, slow)} for metric in ("ttft", "tpot", "e2e")}
    return Totals(requests, requests, failed, requests, failed, 0, timings, requests, {"empty": 0})


def traffic(rng: Generator, windows: int = 200, rate: float = 40.0, bad: float = 0.005) -> list[Recorded]:
    drawn = rng.poisson(rate * TICK_SECONDS, windows)
    return [
        Recorded({"pod": counts(int(n), int(rng.binomial(n, bad)), int(rng.binomial(n, 0.02)))}, TICK_SECONDS)
        for n in drawn
    ]


def tuned(repetitions: int, seed: int = 7, **record: Any) -> Tuned:
    rng = numpy.random.default_rng(seed)
    return tune(a_policy(), traffic(rng, **record), rng, repetitions)


# --- what is played --------------------------------------------------------------------------------------------------


def test_the_parts_of_a_window_add_up_to_it() -> None:
    rng = numpy.random.default_rng(1)
    window = counts(500, failed=17, slow=40)
    canary, stable = dealt(window, 0.1, Calibration(), rng)
    assert added((canary, stable)) == window
    assert 0 < canary.answered < stable.answered


def test_the_split_keeps_the_base_rate() -> None:
    rng = numpy.random.default_rng(1)
    parts = added(dealt(counts(200, failed=20), 0.25, Calibration(), rng)[0] for _ in range(400))
    assert parts.failed / parts.answered == pytest.approx(0.1, abs=0.006)  # 20 000 requests: 3 standard errors
    assert parts.answered == pytest.approx(20_000, rel=0.02)


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_the_split_is_as_bursty_as_what_was_measured_between_pods(factor: float) -> None:
    rng = numpy.random.default_rng(1)
    measured = Calibration(errors=Dispersion(factor, 1000))
    failed = [dealt(counts(200, failed=50), 0.5, measured, rng)[0].failed for _ in range(2000)]
    assert numpy.var(failed) / (50 * 0.25) == pytest.approx(factor, rel=0.12)


@pytest.mark.parametrize("requests", [1, 1000])
def test_a_fault_multiplies_the_rates_however_short_the_windows_are(requests: int) -> None:
    rng = numpy.random.default_rng(1)
    base = counts(10_000, failed=100, slow=300)
    fault = Fault("ill", failing_times=5, slow_times=2)
    parts = [
        counts(requests, int(rng.binomial(requests, 0.01)), int(rng.binomial(requests, 0.03))) for _ in range(20_000)
    ]
    ill = added(fault.into(part, base, rng) for part in parts)
    assert ill.failed / ill.answered == pytest.approx(0.05, rel=0.1)
    assert ill.attempts_failed / ill.attempts == pytest.approx(0.05, rel=0.1)
    assert ill.timings["e2e"]["short"].slow / ill.answered == pytest.approx(0.06, rel=0.1)


def test_more_failing_requests_come_on_top() -> None:
    rng = numpy.random.default_rng(1)
    ill = Fault("ill", failing_more=0.05).into(counts(100_000, failed=1000, slow=7), counts(10, failed=1), rng)
    assert ill.failed == pytest.approx(1000 + 99_000 * 0.05, rel=0.05)
    assert ill.timings == counts(100_000, slow=7).timings


def test_short_windows_are_joined_to_looks_and_long_ones_left() -> None:
    short = [Recorded({"pod": counts(10)}, 2.0)] * 5
    assert [(look.totals.answered, look.seconds) for look in looks(short, TICK_SECONDS)] == [(30, 6.0)]
    long = [Recorded({"pod": counts(10)}, 60.0)]
    assert list(looks(long, TICK_SECONDS)) == long


# --- what comes of it ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_healthy_canary_is_promoted_and_a_failing_one_found() -> None:
    found = tuned(repetitions=40, bad=0.02).found
    by_name = {one.fault: one for one in found}
    healthy, failing = by_name["as good as stable"], by_name["with five times as many failing requests"]
    assert healthy.ends[End.PROMOTED] >= 38
    assert failing.ends == {End.ROLLED_BACK: 40}
    assert failing.seconds is not None
    assert healthy.seconds is not None
    assert failing.seconds[0] < healthy.seconds[0]


@pytest.mark.slow
def test_the_same_seed_plays_the_same_releases() -> None:
    assert tuned(repetitions=3) == tuned(repetitions=3)
    assert tuned(repetitions=3) != tuned(repetitions=3, seed=8)


@pytest.mark.slow
def test_twice_nothing_is_left_out() -> None:
    result = tuned(repetitions=1, bad=0.0)
    assert "a canary with twice as many failing requests: stable had none" in result.left_out
    assert "that fails 5 % more of its requests" in [found.fault for found in result.found]


@pytest.mark.slow
def test_a_release_without_enough_traffic_stays_unproven() -> None:
    result = tuned(repetitions=2, rate=1.5)
    assert result.found[0].ends == {End.UNPROVEN: 2}
    assert result.found[0].seconds is None


def test_too_little_data_says_how_much_is_there_and_how_much_is_needed() -> None:
    with pytest.raises(
        BadInput, match=r"99 windows of a tick \(5 s\) with \d+ requests .* at least 100 windows and 1000"
    ):
        tuned(repetitions=1, windows=99)
    with pytest.raises(BadInput, match="release more often"):
        tune(a_policy(), [], numpy.random.default_rng(1), 1)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 200, 0.0, 0.01828), (3, 200, 0.0031, 0.04321), (100, 200, 0.42866, 0.57134), (200, 200, 0.98172, 1.0)],
)
def test_confidence_limits_are_clopper_and_pearsons(successes: int, trials: int, low: float, high: float) -> None:
    assert confidence_limits(successes, trials) == pytest.approx((low, high), abs=1e-4)


# --- the record ------------------------------------------------------------------------------------------------------


def entry(number: int, kind: str, seconds: float, data: dict[str, Any]) -> Entry:
    return Entry(number, kind, START + timedelta(seconds=seconds), data, "", "")


def a_release() -> list[Entry]:
    plan = {"version": "new", "policy": {"steps": [{}, {}]}}
    windows = [(0, -1, 1000, 0), (10, 0, 1090, 10), (20, 1, 1140, 60), (30, 2, 1150, 150)]
    shifts = {0: 10, 10: 50, 20: 90}
    entries = [entry(1, "plan", 0, plan)]
    for seconds, step, old, new in windows:
        totals = {"old": counts(old, failed=old // 100), "new": counts(new)}
        entries.append(entry(len(entries) + 1, "window", seconds, window_record(step, totals)))
        if seconds in shifts:
            weights = {"old": 100 - shifts[seconds], "new": shifts[seconds]}
            entries.append(entry(len(entries) + 1, "shifted", seconds, {"step": step + 1, "weights": weights}))
    return entries


def test_stables_windows_on_the_ladder_are_weighed_by_its_share() -> None:
    windows = recorded(a_release())
    assert [(window.totals.answered, window.seconds) for window in windows] == [(90, 9.0), (50, 5.0)]


def test_the_load_is_the_whole_traffics() -> None:
    found = load(recorded(a_release()))
    assert found is not None
    assert found.rate == pytest.approx(10.0)
    assert (found.base_rate, found.slow_rate) == (pytest.approx(1 / 140), 0.0)


async def test_prometheus_tells_pods_apart_and_their_attempts_are_taken_for_users_requests() -> None:
    world = World()
    busy, no_proxy = Totals(attempts=90, attempts_failed=3, completed=87, overdue=1), Totals(completed=40)
    world.telemetry.pods_past = [{"a": busy, "b": no_proxy}]
    (window,) = await past(world.ports, a_policy(), timedelta(seconds=30))
    assert window.seconds == 30.0
    assert (window.totals.started, window.totals.answered, window.totals.failed) == (130, 130, 3)
    assert (window.totals.attempts, window.totals.overdue) == (130, 0)


def test_counters_that_older_records_lack_say_nothing() -> None:
    entries = a_release()
    for entry in entries:
        for counters in entry.data.get("totals", {}).values():
            del counters["overdue"]
    assert not recorded(entries)


def test_a_release_that_was_never_planned_or_shifted_has_no_record() -> None:
    assert not recorded([])
    assert not recorded(a_release()[:2])
    assert load([]) is None
