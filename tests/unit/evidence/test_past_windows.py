"""What each pod counted, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from prometheus_client.samples import Sample

from sluice.evidence.past import increases
from sluice.ports import Timing, Totals

WINDOW = timedelta(seconds=10)
LIMITS = {"e2e": 20.0, "in_flight": 20.0}
Series = list[Sample]


def series(name: str, values: Mapping[int, float], **labels: str) -> Series:
    """Time in seconds → value."""
    labels = {"version": "v1", "traffic": "user", **labels}
    return [Sample(name, labels, value, float(at)) for at, value in values.items()]


def answers(pod: str, values: Mapping[int, float]) -> Series:
    return series("serving_answers_total", values, pod=pod)


def past(*found: Series, windows: int = 3) -> Sequence[Mapping[str, Totals]]:
    return increases(found, "v1", LIMITS, WINDOW, windows)


def completed(*found: Series) -> list[dict[str, int]]:
    return [{pod: totals.completed for pod, totals in window.items()} for window in past(*found)]


def test_each_window_has_each_pods_increase() -> None:
    one = answers("one", {10: 100, 20: 103, 30: 103, 40: 110})
    other = answers("other", {10: 7, 20: 8, 30: 9, 40: 10})
    assert completed(one, other) == [{"one": 3, "other": 1}, {"one": 0, "other": 1}, {"one": 7, "other": 1}]


def test_a_pod_belongs_to_no_window_that_it_was_not_there_for() -> None:
    one = answers("one", {10: 1, 20: 2, 30: 3, 40: 4})
    late = answers("late", {30: 500, 40: 501})
    ended = answers("ended", {10: 500, 20: 502})
    assert completed(one, late, ended) == [{"one": 1, "ended": 2}, {"one": 1}, {"one": 1, "late": 1}]


def test_a_gap_is_no_window_and_ends_in_none() -> None:
    assert completed(answers("one", {10: 1, 20: 2, 40: 90})) == [{"one": 1}, {}, {}]


def test_a_restart_counts_from_nothing() -> None:
    assert completed(answers("one", {10: 100, 20: 105, 30: 4, 40: 6})) == [{"one": 5}, {"one": 4}, {"one": 2}]


def test_a_class_of_requests_that_is_new_at_a_pod_is_an_increase() -> None:
    known = series("serving_answers_total", {10: 1, 20: 1, 30: 1, 40: 1}, pod="one", prompt_class="short")
    new = series("serving_answers_total", {30: 5, 40: 6}, pod="one", prompt_class="long")
    assert completed(known, new) == [{"one": 0}, {"one": 5}, {"one": 1}]


def test_late_requests_count_when_they_are_late_and_not_when_they_end() -> None:
    duration = "serving_request_duration_seconds"
    counted = [
        series(f"{duration}_count", {10: 2, 20: 2, 30: 5}, pod="one", prompt_class="short"),
        series(f"{duration}_bucket", {10: 2, 20: 2, 30: 2}, pod="one", prompt_class="short", le="20.0"),
        series(
            "serving_requests_running_longer",
            {10: 0, 20: 3, 30: 0},
            pod="one",
            prompt_class="short",
            metric="e2e",
            le="20.0",
        ),
    ]
    first, second = past(*counted, windows=2)
    assert (first["one"].overdue, first["one"].timings["e2e"]) == (3, {"short": Timing(3, 3)})
    assert (second["one"].overdue, second["one"].timings["e2e"]) == (0, {"short": Timing(0, 0)})


def test_attempts_are_the_pods_own_sidecars_and_never_the_gateways() -> None:
    times = {10: 1, 20: 4, 30: 4, 40: 4}
    labels = {"destination_version": "v1", "response_code": "503", "response_flags": "-"}
    seen = [
        answers("one", times),
        series("istio_requests_total", times, **labels, reporter="destination", pod="one"),
        series("istio_requests_total", times, **labels, reporter="source", pod="gateway"),
        series("istio_requests_total", times, **labels, reporter="destination", pod="gateway"),
    ]
    assert [(sorted(window), window["one"].attempts_failed) for window in past(*seen)] == [
        (["one"], 3),
        (["one"], 0),
        (["one"], 0),
    ]


def test_without_a_label_for_the_pod_the_instance_tells() -> None:
    values = {10: 1, 20: 2, 30: 3, 40: 4}
    found = series("serving_answers_total", values, instance="10.0.0.7:8000")
    assert completed(found) == [{"10.0.0.7:8000": 1}] * 3


def test_without_samples_there_is_no_past() -> None:
    assert past() == ()
