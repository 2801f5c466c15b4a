"""Who was exposed to which version, and what became of it: the load's results joined with the gateway's access log.

Both are files of JSON lines; a user's request is the same in both by its request id. The log says which version a
request went to and when it started there, the load says whether its user got a whole and right answer. Functions over
data, and one that reads the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.demo.load import RESULTS, Result

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seen:
    """Users' requests while the load ran."""

    results: Sequence[Result]
    versions: Mapping[str, str]
    """Request id → the version that answered it, or `unknown`; absent if the gateway never saw the request."""
    starts: Mapping[str, Mapping[str, float]]
    """Version → request id → epoch seconds of its last start at that version, retries included."""


@dataclass(frozen=True)
class Users:
    """One version as its users saw it. Requests, not attempts."""

    exposed: int
    """Started at the version at least once, whoever answered in the end; including those that are not of the load."""
    answered: int
    """Of the load: a good answer came from the version."""
    failed: int
    """Of the load: the version was the last that had the request, and the user got no good answer."""


def read(results: Path, access_log: Path) -> Seen:
    """Both files (the log with its predecessor, if it was rotated), from the load's first request on."""
    found = [Result(**line) for line in _lines(results / RESULTS)]
    rotated = access_log.with_name(f"{access_log.name}.1")
    entries = [entry for path in (rotated, access_log) if path.exists() for entry in _lines(path)]
    return join(found, entries)


def join(results: Sequence[Result], entries: Iterable[Mapping[str, Any]]) -> Seen:
    """Keep the log's entries of users since the first scheduled request; the same versions may be in it from before."""
    began = min((result.scheduled for result in results), default=0.0)
    versions: dict[str, str] = {}
    starts: dict[str, dict[str, float]] = {}
    for entry in entries:
        started = _epoch(entry["start_time"])
        if entry["traffic"] != "user" or started < began:
            continue
        request_id, version = entry["request_id"], entry["destination_version"]
        if entry["type"] == "request":
            versions[request_id] = version
        if version != UNKNOWN:
            of_version = starts.setdefault(version, {})
            of_version[request_id] = max(started, of_version.get(request_id, 0.0))
    return Seen(tuple(results), versions, starts)


def users_of(seen: Seen, version: str) -> dict[str, int]:
    """`exposed`, `answered` and `failed` of one version, as `Users` defines them."""
    own = [result for result in seen.results if seen.versions.get(result.request_id) == version]
    good = sum(result.ok for result in own)
    return asdict(Users(exposed=len(seen.starts.get(version, {})), answered=good, failed=len(own) - good))


def failed_but_for(seen: Seen, versions: Iterable[str]) -> list[Result]:
    """Failed requests that none of these versions answered: also those that no version or no gateway answered."""
    own = frozenset(versions)
    return [result for result in seen.results if not result.ok and seen.versions.get(result.request_id) not in own]


def last_start(seen: Seen, version: str) -> float | None:
    """Epoch seconds at which the last user request started at a version; None if none ever did."""
    return max(seen.starts.get(version, {}).values(), default=None)


def regression_to_last_start(seen: Seen, version: str, verdict_at: datetime) -> float | None:
    """Seconds from the verdict to the last user request that started at the version; 0 if none did after the verdict.

    None if no request ever started there.
    """
    last = last_start(seen, version)
    return None if last is None else max(0.0, last - verdict_at.timestamp())


def send_lag_seconds(seen: Seen) -> tuple[float, float]:
    """How late the load generator itself was: median and 99th percentile (0, 0 for fewer than two requests)."""
    lags = [result.sent - result.scheduled for result in seen.results]
    if len(lags) < 2:
        return 0.0, 0.0
    cuts = quantiles(lags, n=100)
    return cuts[49], cuts[98]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # the last one may be half-written
                yield json.loads(line)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
