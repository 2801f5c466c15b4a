"""What the `sluice` command shows of a reckoning: tables for a terminal, and what differs between two records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sluice.engine.feasibility import Feasibility, Wait, span
from sluice.engine.tune import End, Found, Tuned

WIDTH = 118
"""Columns where the output is no terminal, or a narrow one: cells broken in the middle cannot be read."""

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def show_times(found: Feasibility) -> None:
    """When each step of a healthy release ends."""
    table = Table(
        "step",
        "share agrees",
        "least sample",
        "non_inferior if faultless",
        "at the base rates",
        "step ends",
        "load",
        show_lines=True,
    )
    for number, step in enumerate(found.steps, start=1):
        waits = map(_wait, (step.agree, step.sample, step.faultless, step.at_base_rate))
        table.add_row(f"{number}: {step.weight} %", *waits, _spans(step.step_seconds), f"{step.load_ratio:.2f}")
    _show(table)
    print(
        f"  at {found.rate:.3g} requests/s; median / p90 / p99, or one number where they are equal; requests are "
        "the canary's,\n  for the share both versions'; load: requests of a pod of the canary over those of one of "
        "stable's"
    )
    print(f"  the whole ladder and its soak: {span(found.ladder_seconds or 0.0)} (median of a healthy release)")


def _wait(wait: Wait) -> str:
    return f"{_joined([f'{math.ceil(count)}' for count in wait.requests])} req\n{_spans(wait.seconds)}"


def _spans(seconds: Sequence[float]) -> str:
    """All in the unit of the longest."""
    longest = span(max(seconds)).split()[1]
    return f"{_joined([f'{second / SECONDS[longest]:.3g}' for second in seconds])} {longest}"


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def show_tuned(found: Tuned) -> None:
    """How the played releases ended, and the same in sentences."""
    table = Table(
        "a canary", "rolled back (95 % limits)", "unproven", "promoted", "time until then", "users until then"
    )
    for one in found.found:
        table.add_row(*_played(one))
    _show(table)
    bursts = "as measured between stable's pods" if found.calibration.errors.measured else "not measured"
    print(
        f"  {found.windows} windows of {found.window_seconds:.3g} s: {found.load.rate:.3g} requests/s, "
        f"{_percent(found.load.base_rate)} failing, {_percent(found.load.slow_rate)} slow; bursts: {bursts}\n"
        "  until then: median / p90; of a healthy canary until it is promoted, of the others until they are rolled back"
    )
    for sentence in found.sentences:
        print(f"- {sentence}")


def _played(one: Found) -> list[str]:
    low, high = one.limits
    return [
        one.fault,
        f"{_percent(one.share(End.ROLLED_BACK))} ({_percent(low)} … {_percent(high)})",
        _percent(one.share(End.UNPROVEN)),
        _percent(one.share(End.PROMOTED)),
        _spans(one.seconds) if one.seconds else "",
        _joined([str(users) for users in one.canary_requests]) if one.canary_requests else "",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _show(table: Table) -> None:
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(table)


def differences(recorded: Mapping[str, Any], recomputed: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Each number or text that is not the same, by its path."""
    for name in sorted(recorded.keys() | recomputed.keys()):
        one, other = recorded.get(name), recomputed.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, f"{within}{name}.")
        elif one != other:
            yield f"{within}{name} is recorded as {one!r}, recomputed as {other!r}"
