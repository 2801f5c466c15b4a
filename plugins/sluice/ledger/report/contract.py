"""What the two versions say of themselves, and where it differs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sluice.policy import CONTRACT_PARTS

LONGEST = 300


@dataclass(frozen=True)
class Difference:
    """`forbidden`: the policy does not allow it; None if this part is no promise to callers."""

    name: str
    forbidden: bool | None
    canary: str
    stable: str


@dataclass(frozen=True)
class Contract:
    """`compared`: there was a stable version to compare with. `infos`: what the canary says of itself."""

    compared: bool
    differences: tuple[Difference, ...]
    infos: tuple[tuple[str, str], ...]
    sentence: str
    outcome: str


def contract_of(recorded: Mapping[str, Any], forbidden: Collection[str]) -> Contract | None:
    """What was recorded, with `forbidden` as the policy says; None if nothing was."""
    if not recorded:
        return None
    infos = recorded.get("infos", {})
    canary, stable = infos.get("canary", {}), infos.get("stable")
    verdict = recorded.get("verdict") or {}
    names = sorted(canary.keys() | stable.keys()) if stable is not None else ()
    differences = [
        Difference(name, _forbidden(name, forbidden), _written(canary, name), _written(stable or {}, name))
        for name in names
        if canary.get(name) != (stable or {}).get(name)
    ]
    return Contract(
        compared=stable is not None,
        differences=tuple(sorted(differences, key=lambda one: (one.forbidden is None, not one.forbidden))),
        infos=tuple((name, _written(canary, name)) for name in sorted(canary)),
        sentence=verdict.get("sentence", ""),
        outcome=verdict.get("outcome", ""),
    )


def _forbidden(name: str, forbidden: Collection[str]) -> bool | None:
    return name in forbidden if name in CONTRACT_PARTS else None


def _written(info: Mapping[str, Any], name: str) -> str:
    if name not in info:
        return "—"
    value = info[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
