"""The contract: what two versions say of themselves, compared before any traffic. Exact, so there is no statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sluice.judge.verdict import InvalidGate, Outcome, Verdict

SHORT = 40
"""Characters up to which a value is written in full."""


def contract(
    canary: Mapping[str, Any], stable: Mapping[str, Any] | None, parts: Sequence[str], forbid: Collection[str]
) -> Verdict:
    """Compare the canary's contract with stable's, part by part.

    A part that stable does not state (an older server, or a null) is told and never blocks; one that stable states and
    the canary does not is a difference, since callers may rely on it. A difference in a part of `forbid` is a
    regression. `stable=None` is no_data, never a pass: a first release promises nothing to anybody yet.

    Args:
        canary, stable: part → its value as plain JSON, as the versions' servers state it; other names are ignored.
        parts: what is compared, in the order of the sentence.
        forbid: parts that must not differ.

    Raises:
        InvalidGate: `forbid` names a part that is not compared.
    """
    unknown = sorted(set(forbid).difference(parts))
    if unknown:
        raise InvalidGate(f"contract.forbid: {unknown[0]!r} is none of {', '.join(parts)}")
    if stable is None:
        return Verdict("contract", Outcome.no_data, "contract: there is no stable version to compare with", {})
    stated = [part for part in parts if stable.get(part) is not None]
    differs = [part for part in stated if canary.get(part) != stable[part]]
    forbidden = [part for part in differs if part in forbid]
    numbers = {"differences": float(len(differs)), "forbidden": float(len(forbidden))}
    told = [_difference(part, canary.get(part), stable[part], part in forbid) for part in differs]
    if len(stated) > len(differs):
        told.append(f"as stable's: {', '.join(part for part in stated if part not in differs)}")
    if len(stated) < len(parts):
        told.append(f"stable does not say: {', '.join(part for part in parts if part not in stated)}")
    outcome = Outcome.regression if forbidden else Outcome.non_inferior
    return Verdict("contract", outcome, f"contract: {'; '.join(told)}", numbers)


def _difference(part: str, canary: Any, stable: Any, forbidden: bool) -> str:
    if isinstance(canary, Mapping) and isinstance(stable, Mapping):
        same = {name for name in canary if name in stable and canary[name] == stable[name]}
        canary, stable = ({name: side[name] for name in side if name not in same} for side in (canary, stable))
    text = f"{part} is {_short(canary)} where stable has {_short(stable)}"
    return f"{text}, which the policy forbids" if forbidden else text


def _short(value: Any) -> str:
    """Write a value in at most a few words; long ones by their beginning and digest, so that unequal ones look so."""
    if value is None:
        return "not stated"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    line = " ".join(text.split())
    if len(text) <= SHORT and line == text:
        return text
    return f"{line[:SHORT]}… (sha256 {hashlib.sha256(text.encode()).hexdigest()[:8]})"
