"""What one tick of all gates costs: the only figure that depends on the machine."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.streams import healthy, ladder

REQUESTS = 10_000
WEIGHT_PERCENT = 10
STEP = shipped.POLICY.ladder.index(WEIGHT_PERCENT)


def tick_milliseconds(rng: np.random.Generator, rounds: int = 100) -> float:
    """Median time to observe a window of 10 000 requests with all gates and to read all their verdicts."""
    looks = [look for _ in range(rounds // shipped.HOLD_LOOKS) for look in _windows(rng)]
    gates, seconds = shipped.gates(), []
    for look in looks:
        began = time.perf_counter()
        gates = gates.observe(look)
        _ = (gates.regression, gates.may_be_promoted, gates.share and gates.share.verdict())
        seconds.append(time.perf_counter() - began)
    return 1000.0 * median(seconds)


def _windows(rng: np.random.Generator) -> list[shipped.Look]:
    looks = healthy(rng, ladder(rng, REQUESTS * WEIGHT_PERCENT // 100))
    return [look for look in looks if look.window.step == STEP]
