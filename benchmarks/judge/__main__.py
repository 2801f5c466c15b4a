"""What the judge promises, by simulation: `python -m benchmarks.judge`.

Writes var/bench/judge.json, judge.md and two plots; ends with 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.judge import exposure, latency, plots, promotion, quality, releases, report
from benchmarks.judge.claims import Claim, claims_of, peers_of
from benchmarks.judge.cost import tick_milliseconds
from benchmarks.judge.runner import Cell, run

SEED = 20260
REPETITIONS = 2000
PROCESSES = 2
OUT = Path(__file__).resolve().parents[2] / "var" / "bench"


def cells() -> list[Cell]:
    """All simulations."""
    return [cell for room in (releases, exposure, promotion, latency, quality) for cell in room.cells()]


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    tick_ms = tick_milliseconds(np.random.default_rng(asked.seed))
    found = run(cells(), asked.seed, asked.repetitions, asked.processes, _telling(began))
    claims, peers = claims_of(found, tick_ms, (time.monotonic() - began) / 60), peers_of(found)
    head = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "seed": asked.seed,
        "repetitions": asked.repetitions,
    }
    report.write(asked.out / "judge.json", head, claims, peers)
    (asked.out / "judge.md").write_text(report.markdown(claims, peers), encoding="utf-8")
    plots.draw(asked.out, claims, peers)
    print(report.on_screen(claims))
    return exit_code(claims)


def exit_code(claims: Sequence[Claim]) -> int:
    """0 if every claim holds."""
    return 0 if all(claim.holds for claim in claims) else 1


def _telling(began: float) -> Callable[[str], None]:
    return lambda name: print(f"{time.monotonic() - began:6.0f} s  {name}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each simulation")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
