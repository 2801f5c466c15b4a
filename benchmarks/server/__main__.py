"""The server's speed and endurance, beside other ways to serve: `python -m benchmarks.server`.

Writes var/bench/server.json and server.md; ends with 1 if a claim does not hold, and with 2 if one could not be
measured. Ratios are of one run on one machine, with one thread for every side.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.judge.claims import Claim
from benchmarks.judge.report import on_screen, write
from benchmarks.server import drain, images, sides
from benchmarks.server.claims import Measured, claims_of
from benchmarks.server.client import WrongAnswer
from benchmarks.server.comparison import Model, compare
from benchmarks.server.report import markdown, peers_of
from benchmarks.server.soak import soak
from benchmarks.server.workload import question_asks, questions, random_asks
from sandbox.engine.errors import EngineMissing

SEED = 20261
OUT = sides.ROOT / "var" / "bench"
ENGINE = sides.ROOT / "var" / "engine" / "engine.json"
ROUNDS, QUICK_ROUNDS = 5, 1
SOAK_SECONDS, QUICK_SOAK_SECONDS = 600.0, 20.0
RANDOM_REQUESTS = {1: 12, 4: 24, 16: 64, 32: 96}
QUESTION_REQUESTS = {1: 150, 4: 300, 16: 1000, 32: 1000}
QUICK_SHARE = 0.3
NOT_HELD, NOT_MEASURED = 1, 2


def models(out: Path, quick: bool) -> tuple[Model, Model]:
    """The random model, which the figures are promised for, and the sandbox's."""
    share = QUICK_SHARE if quick else 1.0
    sizes = [
        {concurrency: max(concurrency, round(share * count)) for concurrency, count in requests.items()}
        for requests in (RANDOM_REQUESTS, QUESTION_REQUESTS)
    ]
    asked = questions(sides.ROOT / "prompts" / "arithmetic.jsonl")
    arithmetic = sides.ROOT / "model_image" / "arithmetic" / "r2"
    return (
        Model("30 M random", out / "models" / "random-30m", random_asks, sizes[0]),
        Model("arithmetic", arithmetic, partial(question_asks, asked), sizes[1]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    try:
        measured = _measure(asked, _telling(time.monotonic()))
    except (sides.SideFailed, WrongAnswer, drain.DrainError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return NOT_MEASURED
    claims = claims_of(measured)
    head = {"date": datetime.now(UTC).date().isoformat(), "machine": _machine(), "seed": asked.seed}
    write(asked.out / "server.json", head | {"quick": asked.quick}, claims, peers_of(measured))
    tables = markdown(claims, measured.rounds)
    (asked.out / "server.md").write_text(tables, encoding="utf-8")
    print(tables)
    print(on_screen(claims))
    return exit_code(claims, image_is_missing=measured.image is None and not asked.without_image)


def exit_code(claims: Sequence[Claim], image_is_missing: bool) -> int:
    """0 if every claim was measured and holds."""
    if not all(claim.holds for claim in claims):
        return NOT_HELD
    return NOT_MEASURED if image_is_missing else 0


def _measure(asked: argparse.Namespace, tell: Callable[[str], None]) -> Measured:
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    seconds = asked.soak_seconds or (QUICK_SOAK_SECONDS if asked.quick else SOAK_SECONDS)
    logs = asked.out / "server-logs"
    logs.mkdir(parents=True, exist_ok=True)
    served = models(asked.out, asked.quick)
    sides.write_random_model(served[0].directory)
    # The short ones first: what cannot be measured at all is known within minutes.
    return Measured(
        model=served[0],
        image=None if asked.without_image else _image(asked.engine),
        drain=drain.measure(),
        rounds={model.name: asyncio.run(compare(model, rounds, asked.seed, logs, tell)) for model in served},
        soak=asyncio.run(soak(served[0], seconds, asked.seed, logs, tell)),
    )


def _image(engine: Path) -> images.ImageFigures | None:
    try:
        return images.measure(engine)
    except EngineMissing as error:
        print(f"not measured, refresh_pushed_overhead_mb and refresh_build_overhead_seconds: {error}", file=sys.stderr)
        return None


def _machine() -> dict[str, str | int | None]:
    return {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()}


def _telling(began: float) -> Callable[[str], None]:
    return lambda line: print(f"{time.monotonic() - began:6.0f} s  {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="one round of fewer requests, a soak of 20 s")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--soak-seconds", type=float, help=f"default: {SOAK_SECONDS:g}")
    parser.add_argument("--engine", type=Path, default=ENGINE, help="file that describes the Docker engine")
    parser.add_argument("--without-image", action="store_true", help="leave the image's figures out")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
