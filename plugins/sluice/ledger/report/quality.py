"""The examination's pairs by category, and the prompts that changed sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.ledger.report.records import ROLES, field, verdict_of

LONGEST = 6_000
"""Characters of one text on the page; the rest stands in the ledger."""
MOST_CHANGED = 100
"""Prompts that are shown with both answers; the others are named."""


@dataclass(frozen=True)
class Category:
    """The pairs of one category; means of scores 0 … 1."""

    name: str
    pairs: int
    canary_mean: float
    stable_mean: float | None
    better: int
    worse: int


@dataclass(frozen=True)
class Said:
    """What one version answered."""

    role: str
    text: str
    score: float | None
    error: str
    finish_reason: str


@dataclass(frozen=True)
class Changed:
    """A prompt on which the versions' scores differ."""

    prompt_id: str
    category: str
    prompt: str
    expected: str
    scorer: str
    answers: tuple[Said, ...]


@dataclass(frozen=True)
class Quality:
    sentence: str
    outcome: str
    categories: tuple[Category, ...]
    """Worst difference first."""
    total: Category
    changed: tuple[Changed, ...]
    """The canary's losses first."""
    changed_elsewhere: tuple[str, ...]
    """Ids of prompts that changed sides, whose answers the page does not show."""

    @property
    def compared(self) -> bool:
        return self.total.stable_mean is not None


Pair = tuple[str, str, float, float | None]


def quality_of(examined: Mapping[str, Any]) -> Quality | None:
    """The examination's part on quality; None if there was none."""
    if not examined:
        return None
    pairs: list[Pair] = [(str(pair[0]), str(pair[1]), pair[2], pair[3]) for pair in examined.get("pairs", ())]
    names = sorted({category for _, category, _, _ in pairs})
    categories = [_category(name, [pair for pair in pairs if pair[1] == name]) for name in names]
    scores = {pair[0]: pair for pair in pairs}
    changed = sorted((_changed(one, scores) for one in examined.get("changed_sides", ())), key=_gain)
    shown = {one.prompt_id for one in changed[:MOST_CHANGED]}
    verdict = verdict_of(examined, "quality")
    return Quality(
        sentence=verdict.get("sentence", ""),
        outcome=verdict.get("outcome", ""),
        categories=tuple(sorted(categories, key=lambda one: one.canary_mean - (one.stable_mean or 0.0))),
        total=_category("all", pairs),
        changed=tuple(changed[:MOST_CHANGED]),
        changed_elsewhere=tuple(
            prompt for prompt, _, ours, theirs in pairs if theirs is not None and ours != theirs and prompt not in shown
        ),
    )


def _category(name: str, pairs: Sequence[Pair]) -> Category:
    compared = [(ours, theirs) for _, _, ours, theirs in pairs if theirs is not None]
    return Category(
        name=name,
        pairs=len(pairs),
        canary_mean=sum(pair[2] for pair in pairs) / len(pairs) if pairs else 0.0,
        stable_mean=sum(theirs for _, theirs in compared) / len(compared) if compared else None,
        better=sum(ours > theirs for ours, theirs in compared),
        worse=sum(ours < theirs for ours, theirs in compared),
    )


def _changed(one: Mapping[str, Any], scores: Mapping[str, Pair]) -> Changed:
    prompt = field(one, "prompt", {})
    pair = scores.get(str(prompt.get("id", "")))
    known = {"canary": pair[2], "stable": pair[3]} if pair else {}
    score = known | field(one, "scores", {})
    answers = [
        Said(
            role,
            _cut(str(answer.get("text", ""))),
            score.get(role),
            str(answer.get("error", "")),
            str(answer.get("finish_reason", "")),
        )
        for role in ROLES
        if (answer := field(one, "answers", {}).get(role))
    ]
    text = {name: _cut(str(prompt.get(name, ""))) for name in ("id", "category", "prompt", "answer", "scorer")}
    return Changed(text["id"], text["category"], text["prompt"], text["answer"], text["scorer"], tuple(answers))


def _gain(one: Changed) -> float:
    score = {said.role: said.score or 0.0 for said in one.answers}
    return score.get("canary", 0.0) - score.get("stable", 0.0)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters stand in the ledger)"
