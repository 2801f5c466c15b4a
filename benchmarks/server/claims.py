"""What the server promises, and what the measurements came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.judge.claims import Claim
from benchmarks.server.comparison import IN_PROCESS, SINGLE, TRANSFORMERS_SERVE, Model, Rounds
from benchmarks.server.drain import DrainFigures
from benchmarks.server.images import ImageFigures
from benchmarks.server.soak import OVERLOAD, SoakFigures

BUSY = 16
"""The concurrency that is promised for."""


@dataclass(frozen=True)
class Measured:
    """One run."""

    model: Model
    """The one that the figures are promised for."""
    rounds: dict[str, Rounds]
    """By the model's name."""
    soak: SoakFigures
    drain: DrainFigures
    image: ImageFigures | None
    """None: not measured."""


def claims_of(measured: Measured) -> list[Claim]:
    """Every claim."""
    rounds = measured.rounds[measured.model.name]
    return [
        *_ratios(rounds, measured.model),
        *_soak(measured.soak),
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


def _soak(soak: SoakFigures) -> Iterator[Claim]:
    sent = f"{soak.sent} requests at {soak.rate:.1f}/s, {OVERLOAD:g} × the sustainable rate, {soak.rejected} refused"
    note = f"resident memory at the end over after the warm-up; {sent}"
    yield Claim("soak_memory_growth", soak.memory_growth, "<=", 0.05, 1, "", note)
    yield Claim("reject_p95_ms", soak.reject_p95_ms, "<=", 50, soak.rejected, "ms", "a 429 of the same soak")
    note = "accepted requests of the same soak that were complete before their deadline"
    yield Claim("accepted_kept_deadline", soak.kept_share, ">=", 1.0, soak.accepted, "", note)


def _image(image: ImageFigures | None) -> Sequence[Claim]:
    if image is None:
        return []
    pushed, seconds = image.refresh_pushed_overhead_mb, image.refresh_build_overhead_seconds
    return [
        Claim("refresh_pushed_overhead_mb", pushed, "<=", 5, 1, "MB", "pushed by a refresh, beyond its weights"),
        Claim("refresh_build_overhead_seconds", seconds, "<=", 10, 1, "s", "a refresh, beyond copying its weights"),
    ]


def _drain(drain: DrainFigures) -> Sequence[Claim]:
    note = f"of {drain.requests} requests while servers behind Envoy are replaced one after the other"
    return [Claim("drain_lost_requests", drain.lost, "<=", 0, 1, "requests", note)]
