"""Reading recorded data, of which any part may be missing: releases outlive the versions that recorded them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.ports import Entry

ROLES = ("canary", "stable")


def last_of(entries: Sequence[Entry], kind: str) -> Mapping[str, Any]:
    """The data of the last entry of a kind; empty if there is none."""
    return next((entry.data for entry in reversed(entries) if entry.kind == kind), {})


def field(record: Mapping[str, Any], path: str, default: Any) -> Any:
    """A field by its dotted path; `default` where any part of the path is missing or null."""
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return default if value is None else value


def verdict_of(examined: Mapping[str, Any], gate: str) -> Mapping[str, Any]:
    """A gate's verdict of the examination; empty if it gave none."""
    verdicts = [*examined.get("verdicts", ()), examined.get("verdict") or {}]
    return next((verdict for verdict in verdicts if verdict.get("gate") == gate), {})


def seconds_of(written: Any) -> float | None:
    """A duration as policies are recorded (`0.5s`), in seconds; None if it is none."""
    try:
        return float(str(written).removesuffix("s"))
    except ValueError:
        return None


def step_name(step: int, steps: int) -> str:
    """The step's name in a ladder of so many steps."""
    return "soak" if step >= steps else f"step {step + 1}"
