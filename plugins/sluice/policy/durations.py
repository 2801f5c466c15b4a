"""Times in a policy: `500ms`, `30s`, `10m`, `2h`, `1d`; limits that histograms can tell."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

TIME_EDGES_SECONDS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0),
)
"""Bucket edges of the servers' time histograms, unless serving.settings.time_buckets_seconds gives others: only at an
edge is the share of slow requests known exactly."""
EDGES_KEY = "edges"
"""In pydantic's validation context: the edges that hold. Without it any will do: the policy was valid once."""

LONGEST = timedelta(days=366)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: Any) -> Any:
    """`500ms`, `30s`, `10m`, `2h`, `1d` → timedelta."""
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError("a duration is a number with a unit, for example 500ms, 30s, 10m or 2h")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip())
    if match is None:
        raise ValueError("a duration is a number with a unit, for example 500ms, 30s, 10m or 2h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError("at most a year")
    return timedelta(seconds=seconds)


def _notation(value: timedelta) -> str:
    """What `_duration` reads, to the microsecond."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def edges_seconds(setting: object) -> tuple[float, ...]:
    """The edges of `time_buckets_seconds`, as the server reads it. Raises ValueError."""
    try:
        edges = tuple(float(part) for part in str(setting).split(","))
    except ValueError:
        edges = ()
    if not edges or list(edges) != sorted(set(edges)) or edges[0] <= 0 or not math.isfinite(edges[-1]):
        raise ValueError(
            f"time_buckets_seconds: {setting!r} are no rising numbers of seconds, separated by commas, like 0.1,0.5,1"
        )
    return edges


def _limit(value: timedelta, info: ValidationInfo) -> timedelta:
    edges = (info.context or {}).get(EDGES_KEY)
    seconds = value.total_seconds()
    if edges is not None and seconds not in edges:
        near = sorted(sorted(edges, key=lambda edge: abs(edge - seconds))[:2])
        raise ValueError(
            f"{seconds:g}s is no bucket edge of the servers' histograms; the nearest are "
            f"{' and '.join(f'{edge:g}s' for edge in near)}; serving.settings.time_buckets_seconds can have others"
        )
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_notation, return_type=str),
]
Limit = Annotated[Duration, AfterValidator(_limit)]
