"""Fidelity: how far apart the two versions' log-probabilities of the same texts are, token by token.

It sees what scores do not yet: a bad quantization shifts every probability, long before the greedy answer changes. Only
versions that share a tokenizer can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sluice.engine.plan import Plan
from sluice.ports import Ports, Prompt, Role
from sluice.release import Record


class Divergence(NamedTuple):
    """One prompt with its reference answer, as both versions read it."""

    prompt_id: str
    nats_per_token: float
    """Mean absolute difference of the log-probabilities of the answer's tokens."""
    tokens: int
    """Of the answer."""


async def divergences(
    ports: Ports, plan: Plan, record: Record, prompts: Sequence[Prompt], infos: Mapping[Role, Mapping[str, Any]]
) -> Sequence[Divergence]:
    """One per prompt; none where there is no stable, another tokenizer, or a server that cannot say."""
    if "stable" not in infos or not _same_tokenizer(infos):
        return []
    found = []
    for prompt in prompts[: plan.policy.gates.fidelity.prompts]:
        text = prompt.prompt, prompt.answer
        canary = await ports.endpoint.logprobs(*text, "canary", record.token)
        stable = await ports.endpoint.logprobs(*text, "stable", record.token) if canary else None
        if not canary or not stable or len(canary) != len(stable):
            break
        found.append(Divergence(prompt.id, divergence(canary, stable), len(canary)))
    return found


def divergence(canary: Sequence[float], stable: Sequence[float]) -> float:
    """Mean absolute difference in nats per token."""
    return math.fsum(abs(c - s) for c, s in zip(canary, stable, strict=True)) / len(canary)


def _same_tokenizer(infos: Mapping[Role, Mapping[str, Any]]) -> bool:
    tokenizer = infos["canary"].get("tokenizer")
    return tokenizer is not None and tokenizer == infos["stable"].get("tokenizer")
