"""What the demonstration showed: one table for people, one file of claims for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

WIDTH = 140
_RELATIONS = {"<=": lambda value, limit: value <= limit, ">=": lambda value, limit: value >= limit}


@dataclass(frozen=True)
class Claim:
    """A figure, and what it has to be."""

    name: str
    value: float
    relation: Literal["<=", ">=", "=="]
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        if self.relation == "==":
            return self.value == self.limit
        return bool(_RELATIONS[self.relation](self.value, self.limit))

    def __str__(self) -> str:
        mark = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.name} = {self.value:g} {self.unit} ({self.relation} {self.limit:g}): {mark}"


def table(releases: Sequence[Mapping[str, Any]]) -> str:
    """Per release: steps with the weight desired and the share observed, verdicts with their numbers, durations."""
    made = Table("release", "step", "weight", "observed", "verdict", "why, with the numbers", "s", show_lines=False)
    for release in releases:
        _add(made, release)
    out = StringIO()
    Console(file=out, width=WIDTH, color_system=None).print(made)
    return out.getvalue()


def _add(made: Table, release: Mapping[str, Any]) -> None:
    name = f"{release['revision']}\n{release['version']}"
    examination = release["examination"]
    if examination is not None:
        made.add_row(name, "examine", "0 %", "0 %", examination["outcome"], examination["sentence"], "")
    for step in release["steps"]:
        observed = "" if step["observed"] is None else f"{step['observed']:.1f} %"
        made.add_row(
            "",
            step["name"],
            f"{step['weight']} %",
            observed,
            step["verdict"],
            step["sentence"],
            f"{step['seconds']:.0f}",
        )
    users = release.get("users")
    served = f"; users: canary answered {users['answered']}, failed {users['failed']}" if users else ""
    made.add_row(
        "" if examination else name,
        "",
        "",
        "",
        release["outcome"],
        f"{release['reason']}{served}; overhead {release['overhead_seconds']:.0f} s",
        f"{release['seconds']:.0f}",
    )
    made.add_section()


def overhead(release: Mapping[str, Any]) -> str:
    """Where none of the release's use cases ran: in total, and before each task."""
    return f"overhead {release['overhead_seconds']:.1f} s, of it before {', '.join(map(_before, release['tasks']))}"


def _before(task: Mapping[str, Any]) -> str:
    step = "" if task["step"] is None else f" {task['step'] + 1}"
    return f"{task['use_case']}{step} {task['overhead_seconds']:.1f}"


def write(path: Path, releases: Sequence[Mapping[str, Any]], claims: Sequence[Claim]) -> None:
    """The machine's copy: `releases` and `claims`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"releases": list(releases), "claims": [asdict(claim) for claim in claims]}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
