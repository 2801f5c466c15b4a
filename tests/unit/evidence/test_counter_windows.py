"""Increases of counters, over the resets of what they are read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.samples import Sample
from sluice.evidence.counters import MonotoneCounters
from sluice.evidence.windows import difference, from_record, to_record
from sluice.ports import Timing, Totals


def totals(requests: int, failed: int) -> Totals:
    """A version with `requests` of which `failed` failed and were slow."""
    timings = {"ttft": {"short": Timing(requests, failed)}}
    return Totals(requests, requests, failed, requests, failed, timings)


requests = st.integers(0, 1000)
increments = st.lists(st.tuples(requests, requests).map(lambda pair: (max(pair), min(pair))), min_size=1, max_size=8)
"""Requests and failures of successive windows."""


def sums(increments: list[tuple[int, int]]) -> list[Totals]:
    read = [Totals()]
    for more, worse in increments:
        read.append(totals(read[-1].started + more, read[-1].failed + worse))
    return read


@given(increments)
def test_without_resets_windows_add_up_to_the_counter(increments: list[tuple[int, int]]) -> None:
    windows = [difference(before, after) for before, after in pairwise(sums(increments))]
    assert windows == [totals(*increment) for increment in increments]


@given(increments, increments)
def test_a_reset_never_takes_away_and_counts_from_zero(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    before, after = sums(first)[-1], sums(second)[-1]
    window = difference(before, after)
    assert window.started == after.started - (before.started if before.started <= after.started else 0)
    assert (window.answered, window.failed) in {
        (after.answered, after.failed),
        (after.answered - before.answered, after.failed - before.failed),
    }


@given(increments, increments)
def test_no_window_has_more_failures_than_answers(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    window = difference(sums(first)[-1], sums(second)[-1])
    assert 0 <= window.failed <= window.answered
    assert 0 <= window.attempts_failed <= window.attempts
    assert all(0 <= timing.slow <= timing.requests for timing in window.timings["ttft"].values())


def test_a_fall_of_one_count_resets_what_is_counted_with_it() -> None:
    before = Totals(started=50, answered=10, failed=5)
    after = Totals(started=60, answered=12, failed=2)
    assert difference(before, after) == Totals(started=10, answered=12, failed=2)


def test_more_failures_than_answers_show_a_reset() -> None:
    assert difference(Totals(answered=10), Totals(answered=12, failed=3)) == Totals(answered=12, failed=3)


def test_all_of_a_version_that_was_unknown_is_new() -> None:
    assert difference(None, totals(7, 2)) == totals(7, 2)


def test_a_stratum_seen_for_the_first_time_is_new() -> None:
    after = replace(totals(7, 2), timings={"ttft": {"short": Timing(7, 2), "long": Timing(3, 1)}})
    window = difference(totals(5, 1), after)
    assert window.timings == {"ttft": {"short": Timing(2, 1), "long": Timing(3, 1)}}


def test_a_record_is_json_and_reads_back() -> None:
    assert from_record(json.loads(json.dumps(to_record(totals(7, 2))))) == totals(7, 2)


# --- series by series ------------------------------------------------------------------------------------------------


def scrape(**pods: int) -> dict[str, list[Sample]]:
    return {"http://a": [Sample("requests_total", {"pod": pod}, value) for pod, value in pods.items()]}


def total(samples: Sequence[Sample]) -> float:
    return sum((sample.value for sample in samples), 0.0)


def test_one_pods_restart_does_not_count_the_others_past_again() -> None:
    counters = MonotoneCounters()
    assert total(counters.absorb(scrape(one=500, two=500))) == 1000
    assert total(counters.absorb(scrape(one=4, two=510))) == 1014


def test_what_a_pod_that_ended_had_counted_stays() -> None:
    counters = MonotoneCounters()
    counters.absorb(scrape(one=500, two=500))
    assert total(counters.absorb(scrape(two=510))) == 1010


@given(st.lists(st.tuples(requests, st.booleans()), max_size=20))
def test_absorbed_counters_never_fall(readings: list[tuple[int, bool]]) -> None:
    """Each reading: the counter's new value, and whether the source answered with the series at all."""
    counters = MonotoneCounters()
    read = [total(counters.absorb(scrape(one=value) if there else {})) for value, there in readings]
    assert all(before <= after for before, after in pairwise(read))


def test_a_histogram_restarts_as_one() -> None:
    """Its count alone could not tell: 10 requests before the restart, 12 after it."""
    counters = MonotoneCounters()
    for within, count in [(8, 10), (3, 12)]:
        bucket = Sample("time_bucket", {"le": "0.5"}, within)
        found = counters.absorb({"http://a": [bucket, Sample("time_count", {}, count)]})
    assert {sample.name: sample.value for sample in found} == {"time_bucket": 11, "time_count": 22}
