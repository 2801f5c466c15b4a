"""Increases of counters between two looks, whoever reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.engine.windows import difference, from_record, to_record
from sluice.ports import Timing, Totals


def totals(requests: int, failed: int) -> Totals:
    """A version with `requests` of which `failed` failed and were slow."""
    timings = {"ttft": {"short": Timing(requests, failed)}}
    return Totals(requests, requests, failed, requests, failed, timings=timings)


requests = st.integers(0, 1000)
increments = st.lists(st.tuples(requests, requests).map(lambda pair: (max(pair), min(pair))), min_size=1, max_size=8)
"""Requests and failures of successive windows."""


def sums(increments: list[tuple[int, int]]) -> list[Totals]:
    read = [Totals()]
    for more, worse in increments:
        read.append(totals(read[-1].started + more, read[-1].failed + worse))
    return read


@settings(deadline=None)
@given(increments)
def test_without_resets_windows_add_up_to_the_counter(increments: list[tuple[int, int]]) -> None:
    windows = [difference(before, after) for before, after in pairwise(sums(increments))]
    assert windows == [totals(*increment) for increment in increments]


@settings(deadline=None)
@given(increments, increments)
def test_a_fall_takes_nothing_away_and_adds_nothing(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    before, after = sums(first)[-1], sums(second)[-1]
    window = difference(before, after)
    assert window.started == max(0, after.started - before.started)
    assert (window.answered, window.failed) in {
        (0, 0),
        (after.answered - before.answered, after.failed - before.failed),
    }


@settings(deadline=None)
@given(increments, increments)
def test_no_window_has_more_failures_than_answers(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    window = difference(sums(first)[-1], sums(second)[-1])
    assert 0 <= window.failed <= window.answered
    assert 0 <= window.attempts_failed <= window.attempts
    assert all(0 <= timing.slow <= timing.requests for timing in window.timings["ttft"].values())


def test_a_fall_of_one_count_voids_what_is_counted_with_it() -> None:
    before = Totals(started=50, answered=10, failed=5)
    after = Totals(started=60, answered=12, failed=2)
    assert difference(before, after) == Totals(started=10)


def test_more_failures_than_answers_show_a_fall() -> None:
    assert difference(Totals(answered=10), Totals(answered=12, failed=3)) == Totals()


def test_all_of_a_version_that_was_unknown_is_new() -> None:
    assert difference(None, totals(7, 2)) == totals(7, 2)


def test_a_request_that_hangs_counts_as_failed_when_it_is_overdue_and_not_again_when_it_ends() -> None:
    hanging = Totals(started=10, answered=9, attempts=9, overdue=1)
    ended = Totals(started=10, answered=10, failed=1, attempts=10, attempts_failed=1)
    first, second = difference(Totals(started=10, answered=9, attempts=9), hanging), difference(hanging, ended)
    assert (first.attempts, first.attempts_failed, first.answered, first.failed) == (1, 1, 1, 1)
    assert (second.attempts, second.attempts_failed, second.answered, second.failed) == (0, 0, 0, 0)


def test_an_overdue_request_that_ends_well_hides_no_other_failure() -> None:
    before = Totals(answered=9, attempts=9, overdue=2)
    after = Totals(answered=30, failed=1, attempts=30, attempts_failed=1)
    window = difference(before, after)
    assert (window.attempts, window.attempts_failed) == (19, 0)


def test_behaviour_is_counted_against_the_completed_answers() -> None:
    before = Totals(completed=10, behaviour={"empty": 1, "long": 0})
    after = Totals(completed=16, behaviour={"empty": 3, "long": 0})
    window = difference(before, after)
    assert (window.completed, window.behaviour) == (6, {"empty": 2, "long": 0})


def test_servers_that_started_again_void_the_windows_behaviour() -> None:
    window = difference(Totals(completed=10, behaviour={"empty": 1}), Totals(completed=4, behaviour={"empty": 3}))
    assert (window.completed, window.behaviour) == (0, {"empty": 0})


def test_a_stratum_seen_for_the_first_time_is_new() -> None:
    after = replace(totals(7, 2), timings={"ttft": {"short": Timing(7, 2), "long": Timing(3, 1)}})
    window = difference(totals(5, 1), after)
    assert window.timings == {"ttft": {"short": Timing(2, 1), "long": Timing(3, 1)}}


def test_a_record_is_json_and_reads_back() -> None:
    assert from_record(json.loads(json.dumps(to_record(totals(7, 2))))) == totals(7, 2)
