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


def test_a_series_that_is_written_twice_counts_once() -> None:
    sample = Sample("requests_total", {"pod": "one"}, 5)
    assert total(MonotoneCounters().absorb({"http://a": [sample, sample]})) == 5


def test_the_same_series_of_two_sources_are_two() -> None:
    sample = Sample("requests_total", {"pod": "one"}, 5)
    assert total(MonotoneCounters().absorb({"http://a": [sample], "http://b": [sample]})) == 10
