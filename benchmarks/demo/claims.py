"""The demonstration's figures, and what they have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmarks.demo import observer
from benchmarks.demo.observer import Seen
from benchmarks.demo.report import Claim

REQUESTS_AT_LEAST = 20.0
"""User requests per second while the load runs."""


def claims_of(releases: Sequence[Mapping[str, Any]], seen: Seen, parse_seconds: float) -> list[Claim]:
    """Every figure that the demonstration promises, from its releases (by revision) and what users saw."""
    by_revision = {release["revision"]: release for release in releases}
    damaged, misconfigured = by_revision["r3"], by_revision["r4"]
    return [
        Claim("user_requests", len(seen.results), ">=", REQUESTS_AT_LEAST * _seconds(seen), "requests"),
        Claim(
            "failed_user_requests", len(observer.failed_but_for(seen, [misconfigured["version"]])), "==", 0, "requests"
        ),
        Claim("r3_exposed_requests", damaged["users"]["exposed"], "==", 0, "requests"),
        Claim("r4_failed_requests", misconfigured["users"]["failed"], "<=", 30, "requests"),
        Claim("r4_exposed_requests", misconfigured["users"]["exposed"], ">=", 1, "requests"),
        Claim("overhead_seconds", max(release["overhead_seconds"] for release in releases), "<=", 45, "s"),
        Claim("regression_to_last_canary_start_seconds", _to_last_start(misconfigured, seen), "<=", 0.5, "s"),
        Claim("parse_200_policies_seconds", parse_seconds, "<=", 3, "s"),
    ]


def _seconds(seen: Seen) -> float:
    scheduled = [result.scheduled for result in seen.results]
    return max(scheduled) - min(scheduled) if scheduled else 0.0


def _to_last_start(release: Mapping[str, Any], seen: Seen) -> float:
    """From the verdict to the last user request that started at the version; endless if there was no such verdict."""
    regressions = [step for step in release["steps"] if step["verdict"] == "roll_back"]
    if not regressions:
        return float("inf")
    decided_at = datetime.fromisoformat(regressions[-1]["decided_at"])
    return observer.regression_to_last_start(seen, release["version"], decided_at) or 0.0
