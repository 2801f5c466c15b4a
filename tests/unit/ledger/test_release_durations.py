"""Where a release's time went: use cases, gaps, and what ran between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sluice.errors import BadInput
from sluice.ledger.durations import Durations, overhead
from sluice.ports import Entry

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(second: float, kind: str, use_case: str = "", step: int | None = None) -> Entry:
    data = {"use_case": use_case, "step": step} if use_case else {}
    return Entry(0, kind, START + timedelta(seconds=second), data, "", "")


def durations(*entries: Entry) -> Durations:
    """Of a release that was triggered at second 0 and planned at second 2."""
    plan = Entry(1, "plan", START + timedelta(seconds=2), {"triggered_at": START.isoformat()}, "", "")
    return overhead([plan, *entries])


def seconds(*values: float) -> list[timedelta]:
    return [timedelta(seconds=value) for value in values]


def test_overhead_is_the_time_in_which_no_use_case_ran() -> None:
    found = durations(
        entry(5, "started", "build"),
        entry(15, "ended", "build"),
        entry(18, "started", "watch", 0),
        entry(48, "ended", "watch", 0),
        entry(50, "concluded"),
    )
    assert [found.total, found.overhead] == seconds(50, 5 + 3 + 2)
    assert [(span.use_case, span.step) for span in found.spans] == [("build", None), ("watch", 0)]
    assert [span.duration for span in found.spans] == seconds(10, 30)
    assert [span.gap_before for span in found.spans] == seconds(5, 3)


def test_use_cases_at_the_same_time_are_not_counted_twice() -> None:
    found = durations(
        entry(5, "started", "watch", 0),
        entry(10, "started", "settle"),
        entry(12, "ended", "settle"),
        entry(20, "ended", "watch", 0),
        entry(25, "started", "conclude"),
        entry(26, "ended", "conclude"),
    )
    assert found.overhead == timedelta(seconds=5 + 5)
    assert [span.gap_before for span in found.spans] == seconds(5, 0, 5)


def test_a_killed_use_case_ran_until_its_last_sign_of_life() -> None:
    found = durations(
        entry(2, "started", "watch", 1),
        entry(8, "window"),
        entry(30, "started", "watch", 1),
        entry(40, "ended", "watch", 1),
    )
    assert [span.duration for span in found.spans] == seconds(6, 10)
    assert found.overhead == timedelta(seconds=2 + 22)


def test_a_killed_use_case_that_is_not_repeated_does_not_cover_what_follows() -> None:
    found = durations(
        entry(2, "started", "watch", 1),
        entry(8, "window"),
        entry(30, "started", "settle"),
        entry(40, "ended", "settle"),
    )
    assert [span.duration for span in found.spans] == seconds(6, 10)


def test_a_use_case_that_still_runs_has_run_until_the_last_entry() -> None:
    found = durations(entry(2, "started", "watch", 1), entry(8, "window"))
    assert [found.total, found.overhead] == seconds(8, 2)


def test_the_same_use_case_at_another_step_is_another_one() -> None:
    found = durations(
        entry(2, "started", "shift", 0),
        entry(3, "ended", "shift", 0),
        entry(4, "started", "shift", 1),
        entry(7, "ended", "shift", 1),
    )
    assert [(span.step, span.duration) for span in found.spans] == [
        (0, timedelta(seconds=1)),
        (1, timedelta(seconds=3)),
    ]


@pytest.mark.parametrize("entries", [[], [entry(0, "plan")]])
def test_a_release_without_its_trigger_has_no_durations(entries: list[Entry]) -> None:
    with pytest.raises(BadInput, match="first entry with `triggered_at`"):
        overhead(entries)
