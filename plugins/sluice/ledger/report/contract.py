"""What the two versions say of themselves, and where it differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 300


@dataclass(frozen=True)
class Difference:
    name: str
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


def contract_of(recorded: Mapping[str, Any]) -> Contract | None:
    """None if no contract was recorded."""
    if not recorded:
        return None
    infos = recorded.get("infos", {})
    canary, stable = infos.get("canary", {}), infos.get("stable")
    verdict = recorded.get("verdict") or {}
    return Contract(
        compared=stable is not None,
        differences=tuple(
            Difference(name, _written(canary, name), _written(stable or {}, name))
            for name in recorded.get("differs", ())
        ),
        infos=tuple((name, _written(canary, name)) for name in sorted(canary)),
        sentence=verdict.get("sentence", ""),
        outcome=verdict.get("outcome", ""),
    )


def _written(info: Mapping[str, Any], name: str) -> str:
    if name not in info:
        return "—"
    value = info[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
