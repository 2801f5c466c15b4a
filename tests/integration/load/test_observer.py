"""Whom a version reached and what became of them, from the load's results and the gateway's access log."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.demo import observer
from benchmarks.demo.load import Result

BEGAN = 1_800_000_000.0
STABLE, CANARY = "aaa", "bbb"


def result(number: int, ok: bool = True, at: float = 0.0) -> Result:
    when = BEGAN + at
    return Result(f"id-{number}", when, when + 0.001, when + 0.1, "short", False, 200, ok, "" if ok else "empty text")


def entry(number: int, version: str, kind: str = "request", at: float = 0.0, traffic: str = "user") -> dict[str, Any]:
    start = datetime.fromtimestamp(BEGAN + at, UTC).isoformat().replace("+00:00", "Z")
    return {
        "type": kind,
        "request_id": f"id-{number}",
        "start_time": start,
        "traffic": traffic,
        "destination_version": version,
    }


def test_requests_are_counted_where_they_were_answered() -> None:
    results = [result(1), result(2, ok=False), result(3)]
    seen = observer.join(results, [entry(1, STABLE), entry(2, CANARY), entry(3, CANARY)])

    assert observer.users_of(seen, STABLE) == {"exposed": 1, "answered": 1, "failed": 0}
    assert observer.users_of(seen, CANARY) == {"exposed": 2, "answered": 1, "failed": 1}


def test_a_request_that_the_canary_failed_and_stable_answered_was_exposed_but_did_not_fail() -> None:
    attempts = [entry(1, CANARY, "attempt_started"), entry(1, STABLE, "attempt_started", at=0.1)]
    seen = observer.join([result(1)], [*attempts, entry(1, STABLE)])

    assert observer.users_of(seen, CANARY) == {"exposed": 1, "answered": 0, "failed": 0}
    assert observer.users_of(seen, STABLE) == {"exposed": 1, "answered": 1, "failed": 0}


def test_probes_expose_no_user() -> None:
    seen = observer.join([result(1)], [entry(1, STABLE), entry(2, CANARY, traffic="synthetic")])

    assert observer.users_of(seen, CANARY)["exposed"] == 0
    assert observer.last_start(seen, CANARY) is None


def test_a_user_who_is_not_of_the_load_is_exposed_too() -> None:
    seen = observer.join([result(1)], [entry(1, STABLE), entry(99, CANARY, at=1.0)])

    assert observer.users_of(seen, CANARY) == {"exposed": 1, "answered": 0, "failed": 0}


def test_what_the_log_has_from_before_the_load_does_not_count() -> None:
    seen = observer.join([result(1)], [entry(99, CANARY, at=-60.0), entry(1, STABLE)])

    assert observer.users_of(seen, CANARY)["exposed"] == 0


def test_failures_count_against_all_but_the_named_versions_even_if_no_version_had_them() -> None:
    results = [result(1, ok=False), result(2, ok=False), result(3, ok=False), result(4)]
    log = [entry(1, CANARY), entry(2, STABLE), entry(4, STABLE)]
    seen = observer.join(results, log)

    assert [each.request_id for each in observer.failed_but_for(seen, [CANARY])] == ["id-2", "id-3"]


@pytest.mark.parametrize(("verdict", "seconds"), [(1.0, 2.5), (3.0, 0.5), (4.0, 0.0)], ids=["early", "late", "after"])
def test_the_way_back_ends_with_the_last_start_at_the_canary(verdict: float, seconds: float) -> None:
    log = [entry(1, CANARY), entry(2, CANARY, "attempt_started", at=3.5), entry(3, STABLE, at=9.0)]
    seen = observer.join([result(1), result(2), result(3)], log)
    verdict_at = datetime.fromtimestamp(BEGAN + verdict, UTC)

    assert observer.regression_to_last_start(seen, CANARY, verdict_at) == pytest.approx(seconds)


def test_without_a_start_there_is_no_way_back_to_measure() -> None:
    seen = observer.join([result(1)], [entry(1, STABLE)])

    assert observer.regression_to_last_start(seen, CANARY, datetime.fromtimestamp(BEGAN, UTC)) is None


def test_files_are_read_with_the_rotated_log_and_without_a_half_written_line(tmp_path: Path) -> None:
    results = [result(1), result(2)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(asdict(each)) + "\n" for each in results))
    (tmp_path / "access.log.1").write_text(json.dumps(entry(1, STABLE)) + "\n")
    (tmp_path / "access.log").write_text(json.dumps(entry(2, STABLE)) + "\n" + '{"type": "requ')

    seen = observer.read(tmp_path, tmp_path / "access.log")

    assert observer.users_of(seen, STABLE) == {"exposed": 2, "answered": 2, "failed": 0}


def test_the_generators_own_lag_is_told() -> None:
    seen = observer.join([result(number) for number in range(100)], [])

    assert observer.send_lag_seconds(seen) == pytest.approx((0.001, 0.001), abs=1e-5)
