"""Counters that survive the restart of what they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.samples import Sample

from sluice.evidence.counters import MonotoneCounters


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


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=20))
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


def test_what_is_no_counter_tells_no_reset_and_keeps_what_it_counted() -> None:
    counters = MonotoneCounters()
    for longer, count in [(5, 10), (3, 10), (4, 10)]:
        found = counters.absorb({"a": [Sample("time_longer", {"le": "1"}, longer), Sample("time_count", {}, count)]})
    assert {sample.name: sample.value for sample in found} == {"time_longer": 6, "time_count": 10}


def test_an_edge_that_a_histogram_shows_no_more_keeps_its_count() -> None:
    counters = MonotoneCounters()
    for samples in ([("1", 7), ("2", 9)], [("2", 3)], [("1", 1), ("2", 4)]):
        found = counters.absorb({"a": [Sample("time_bucket", {"le": edge}, value) for edge, value in samples]})
    assert {sample.labels["le"]: sample.value for sample in found} == {"1": 8, "2": 13}


def test_a_scrape_that_was_seen_before_counts_once() -> None:
    counters = MonotoneCounters()
    first, second = ({"a": [Sample("requests_total", {}, value, at)]} for value, at in [(9, 10.0), (2, 20.0)])
    counters.absorb(first, second)
    assert total(counters.absorb(first, second)) == 11


def test_a_series_that_is_written_twice_counts_once() -> None:
    sample = Sample("requests_total", {"pod": "one"}, 5)
    assert total(MonotoneCounters().absorb({"http://a": [sample, sample]})) == 5


def test_the_same_series_of_two_sources_are_two() -> None:
    sample = Sample("requests_total", {"pod": "one"}, 5)
    assert total(MonotoneCounters().absorb({"http://a": [sample], "http://b": [sample]})) == 10
