"""How far the canary's log-probabilities are from stable's on the same tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.ledger.report.records import verdict_of

WORST = 8


@dataclass(frozen=True)
class Text:
    prompt_id: str
    nats_per_token: float
    tokens: int


@dataclass(frozen=True)
class Fidelity:
    """`mean`: nats per token, of the prompts' own means, as the gate has it; None if none could be compared."""

    sentence: str
    outcome: str
    texts: int
    tokens: int
    mean: float | None
    limit: float | None
    worst: tuple[Text, ...]


def fidelity_of(examined: Mapping[str, Any], limit: float | None) -> Fidelity | None:
    """None if the examination did not record it."""
    if "fidelity" not in examined:
        return None
    texts = [Text(str(prompt), float(nats), int(tokens)) for prompt, nats, tokens in examined["fidelity"] or ()]
    verdict = verdict_of(examined, "fidelity")
    return Fidelity(
        sentence=verdict.get("sentence", ""),
        outcome=verdict.get("outcome", ""),
        texts=len(texts),
        tokens=sum(text.tokens for text in texts),
        mean=sum(text.nats_per_token for text in texts) / len(texts) if texts else None,
        limit=limit,
        worst=tuple(sorted(texts, key=lambda text: -text.nats_per_token)[:WORST]),
    )
