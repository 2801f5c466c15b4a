"""The result for machines and for the README."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.judge.claims import Claim
from benchmarks.judge.report import amount
from benchmarks.server.claims import Measured
from benchmarks.server.comparison import CONCURRENCIES, IN_PROCESS, OURS, SINGLE, TRANSFORMERS_SERVE, Rounds

NAMES = {
    OURS: "this server",
    TRANSFORMERS_SERVE: "`transformers serve --continuous-batching`",
    SINGLE: "one `generate` at a time behind HTTP",
    IN_PROCESS: "`generate` in a loop, no server",
}
_RELATIONS = {"<=": "≤", ">=": "≥"}


def peers_of(measured: Measured) -> dict[str, Mapping[str, Any]]:
    """Every sample by model and side, and the soak, the drain and the image as they were measured."""
    found: dict[str, Mapping[str, Any]] = {name: rounds.to_record() for name, rounds in measured.rounds.items()}
    found |= {"soak": _finite(asdict(measured.soak)), "drain": asdict(measured.drain)}
    if measured.image is not None:
        found["image"] = asdict(measured.image)
    return found


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is no number is None."""
    return {name: value if math.isfinite(value) else None for name, value in record.items()}


def markdown(claims: Sequence[Claim], rounds: Mapping[str, Rounds]) -> str:
    """The tables of the README: what is promised, then speed by model and concurrency."""
    return "\n\n".join((_claims(claims), *(_speed(name, one) for name, one in rounds.items()))) + "\n"


def _claims(claims: Sequence[Claim]) -> str:
    rows = [(f"`{c.name}`", amount(c), f"{_RELATIONS[c.relation]} {_limit(c)}", _mark(c), c.note) for c in claims]
    return _table(("claim", "measured", "limit", "", "what was measured"), rows)


def _limit(claim: Claim) -> str:
    return f"{claim.limit:.3g}" if claim.unit else f"{100 * claim.limit:g} %"


def _mark(claim: Claim) -> str:
    return "holds" if claim.holds else "**does not hold**"


def _speed(model: str, rounds: Rounds) -> str:
    head = (f"{model}: tokens/s, time to first token p95", *(f"concurrency {c}" for c in CONCURRENCIES))
    return _table(head, [*_absolute(rounds), *_ratios(rounds)])


def _absolute(rounds: Rounds) -> Iterator[Sequence[str]]:
    for side in (OURS, TRANSFORMERS_SERVE, SINGLE):
        samples = [rounds.median(side, concurrency) for concurrency in CONCURRENCIES]
        yield NAMES[side], *(f"{s.tokens_per_second:.0f}, {1000 * s.ttft_p95_seconds:.0f} ms" for s in samples)
    speeds = sorted(rounds.inprocess_tokens_per_second)
    yield NAMES[IN_PROCESS], f"{speeds[len(speeds) // 2]:.0f}", *(["–"] * (len(CONCURRENCIES) - 1))


def _ratios(rounds: Rounds) -> Iterator[Sequence[str]]:
    for side in (TRANSFORMERS_SERVE, SINGLE):
        both = [(rounds.tokens_ratio(side, c), rounds.ttft_p95_ratio(side, c)) for c in CONCURRENCIES]
        yield f"ratio to {NAMES[side]}", *(f"{tokens:.2f} ×, {ttft:.2f} ×" for tokens, ttft in both)
    ratio = f"{rounds.tokens_ratio(IN_PROCESS, 1):.2f} ×"
    yield f"ratio to {NAMES[IN_PROCESS]}", ratio, *(["–"] * (len(CONCURRENCIES) - 1))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
