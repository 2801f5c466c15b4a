"""Durations and percentages: from the forms that Istio's API takes to those that Envoy's takes."""

from __future__ import annotations

import re
from typing import Any

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)")


def envoy_duration(text: str) -> str:
    """`1m30s`, `500ms`, `0s` -> seconds as protobuf's JSON form has them (`90s`, `0.5s`).

    Raises:
        ValueError: `text` is no duration.
    """
    if not text or PART.sub("", text):
        raise ValueError(f"{text!r} is not a duration such as 0.5s, 100ms or 1m30s")
    seconds = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def envoy_percentage(value: Any) -> dict[str, Any]:
    """`{"value": 12.5}`, or absent for all requests -> a fractional percent of millionths."""
    percent = 100.0 if value is None else float(value.get("value", 0.0))
    return {"numerator": round(percent * 10_000), "denominator": "MILLION"}
