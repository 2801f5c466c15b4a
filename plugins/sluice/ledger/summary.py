"""What came of a release, from its ledger: steps with weights desired and observed, verdicts, durations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.ledger.durations import overhead
from sluice.ports import Entry

_ENDS_WITH = {"plan": "refused", "build": "refused", "begin": "refused", "conclude": "unsettled"}
"""Outcome of a release whose last use case failed, where no other follows."""


def summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """One release as plain JSON: revision, version, drill, outcome, reason, steps, seconds, overhead_seconds.

    `outcome` is `running` until the release is concluded, `refused` if it failed before it touched anything,
    `unsettled` if nothing verified its end. `drill` is the fault of a drill, which ends `drill_passed` or
    `drill_failed`; "" for a release. `observed` is the canary's share in percent of the requests that started at the
    step, None where no share was to be shown.
    """
    plan = next((entry.data for entry in entries if entry.kind == "plan"), {})
    ladder = plan.get("policy", {}).get("steps", [])
    durations = overhead(entries)
    return {
        "revision": entries[0].data.get("revision", ""),
        "version": plan.get("version", ""),
        "drill": plan.get("request", {}).get("drill", ""),
        **_outcome(entries),
        "examination": _examination(entries),
        "steps": [_step(entry, len(ladder)) for entry in entries if entry.kind == "look"],
        "seconds": durations.total.total_seconds(),
        "overhead_seconds": durations.overhead.total_seconds(),
        "tasks": [
            {
                "use_case": span.use_case,
                "step": span.step,
                "seconds": span.duration.total_seconds(),
                "overhead_seconds": span.gap_before.total_seconds(),
            }
            for span in durations.spans
        ],
    }


def _outcome(entries: Sequence[Entry]) -> dict[str, str]:
    ends = next((entry for entry in reversed(entries) if entry.kind in ("drilled", "concluded")), None)
    if ends is not None and ends.kind == "drilled":
        return {"outcome": "drill_passed" if ends.data["passed"] else "drill_failed", "reason": ends.data["sentence"]}
    if ends is not None:
        return {"outcome": ends.data["outcome"], "reason": ends.data["sentence"]}
    last = next((entry.data for entry in reversed(entries) if entry.kind in ("started", "ended")), {})
    if "error" in last and last["use_case"] in _ENDS_WITH:
        return {"outcome": _ENDS_WITH[last["use_case"]], "reason": last["sentence"]}
    return {"outcome": "running", "reason": ""}


def _examination(entries: Sequence[Entry]) -> Mapping[str, Any] | None:
    examined = next((entry.data for entry in reversed(entries) if entry.kind == "examined"), None)
    return None if examined is None else examined["verdict"]


def _step(entry: Entry, soak: int) -> dict[str, Any]:
    look = entry.data
    share = look["share"]["numbers"].get("observed_percent") if look["share"] else None
    return {
        "step": look["step"],
        "name": "soak" if look["step"] == soak else f"step {look['step'] + 1}",
        "weight": look["weight"],
        "observed": share,
        "verdict": look["action"],
        "sentence": look["sentence"],
        "verdicts": look["verdicts"],
        "seconds": look["seconds"],
        "decided_at": entry.at.isoformat(),
        "canary_requests": look["canary_requests"],
    }
