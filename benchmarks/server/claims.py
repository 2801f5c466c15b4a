"""What the server promises, and what the measurements came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.judge.claims import Claim
from benchmarks.server.comparison import IN_PROCESS, SINGLE, TRANSFORMERS_SERVE, Model, Rounds
from benchmarks.server.drain import DrainFigures
from benchmarks.server.images import ImageFigures
from benchmarks.server.soak import OVERLOAD, SoakFigures

BUSY = 16
"""The concurrency that is promised for."""


@dataclass(frozen=True)
class Measured:
    """One run; what was not measured is absent."""

    model: Model
    """The one that the ratios are promised for."""
    rounds: dict[str, Rounds]
    """By the model's name."""
    soaks: dict[str, SoakFigures] = field(default_factory=dict)
    """By the model's name."""
    drain: DrainFigures | None = None
    image: ImageFigures | None = None


def claims_of(measured: Measured) -> list[Claim]:
    """Every claim."""
    rounds = measured.rounds[measured.model.name]
    return [
        *_ratios(rounds, measured.model),
        *_soaks(measured.soaks),
        *_image(measured.image),
        *_drain(measured.drain),
    ]


def _ratios(rounds: Rounds, model: Model) -> Iterator[Claim]:
    count = len(rounds.inprocess_tokens_per_second)

    def tokens(name: str, other: str, concurrency: int, limit: float) -> Claim:
        ratio = rounds.tokens_ratio(other, concurrency)
        note = f"tokens/s, {model.name}, concurrency {concurrency}, beside {_NAMES[other]}"
        return Claim(name, ratio, ">=", limit, count, "×", note)

    def ttft(name: str, other: str, limit: float) -> Claim:
        note = f"p95 of the time to first token, {model.name}, concurrency {BUSY}, beside {_NAMES[other]}"
        return Claim(name, rounds.ttft_p95_ratio(other, BUSY), "<=", limit, count, "×", note)

    yield tokens(f"tokens_vs_single_c{BUSY}", SINGLE, BUSY, 3.5)
    yield ttft(f"ttft_p95_vs_single_c{BUSY}", SINGLE, 1 / 3)
    yield tokens(f"tokens_vs_transformers_serve_c{BUSY}", TRANSFORMERS_SERVE, BUSY, 1.0)
    yield ttft(f"ttft_p95_vs_transformers_serve_c{BUSY}", TRANSFORMERS_SERVE, 1.0)
    yield tokens("tokens_vs_inprocess_c1", IN_PROCESS, 1, 0.8)


_NAMES = {
    SINGLE: "one `generate` at a time behind HTTP",
    TRANSFORMERS_SERVE: "`transformers serve --continuous-batching`",
    IN_PROCESS: "`generate` in a loop without a server",
}


def _soaks(soaks: dict[str, SoakFigures]) -> Iterator[Claim]:
    """Of the model that does worse."""
    if not soaks:
        return
    sent = ", ".join(
        f"{name}: {one.sent} requests at {one.rate:.1f}/s, {one.rejected} refused" for name, one in soaks.items()
    )
    each = list(soaks.values())
    growth = _worst(one.memory_growth for one in each)
    reject = _worst(one.reject_p95_ms for one in each)
    note = f"resident memory at the end over after the warm-up; {OVERLOAD:g} × the sustainable rate, {sent}"
    yield Claim("soak_memory_growth", growth, "<=", 0.05, len(each), "", note)
    yield Claim("reject_p95_ms", reject, "<=", 50, len(each), "ms", "a 429, of the same soak")
    kept = -_worst(-one.kept_share for one in each)
    yield Claim("accepted_kept_deadline", kept, ">=", 1.0, len(each), "", "accepted requests of the same soak")


def _worst(found: Iterable[float]) -> float:
    """The largest; no number if one of them is none."""
    return float(np.max(list(found)))


def _image(image: ImageFigures | None) -> Sequence[Claim]:
    if image is None:
        return []
    pushed, seconds = image.refresh_pushed_overhead_mb, image.refresh_build_overhead_seconds
    return [
        Claim("refresh_pushed_overhead_mb", pushed, "<=", 5, 1, "MB", "pushed by a refresh, beyond its weights"),
        Claim("refresh_build_overhead_seconds", seconds, "<=", 10, 1, "s", "a refresh, beyond copying its weights"),
    ]


def _drain(drain: DrainFigures | None) -> Sequence[Claim]:
    if drain is None:
        return []
    note = f"of {drain.requests} requests while servers behind Envoy are replaced one after the other"
    return [Claim("drain_lost_requests", drain.lost, "<=", 0, 1, "requests", note)]
