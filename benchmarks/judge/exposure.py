"""Bad canaries: how many requests they answer before each rule rolls back."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.peers import argo, flagger, kayenta
from benchmarks.judge.releases import kayenta_metric
from benchmarks.judge.runner import Cell, Outcome
from benchmarks.judge.streams import ERRORS, errors, ladder, traffic, windows
from sluice.judge import Arm, ErrorsGate, Window
from sluice.judge import Outcome as Says

RATES = {"20pct": 0.20, "5pct": 0.05, "2pct": 0.02}
WINDOWS = (3, 30, 120)
HORIZON_REQUESTS = 6000
"""Canary requests within which a bad canary counts as detected."""
LATE_BEFORE = ((1000, 0.05), (3000, 0.10), (6000, 0.25))
"""Healthy canary requests, and their weight, before the late onset."""
SOAK_REQUESTS_PER_SECOND = 20
HOLDBACK = 0.10


def cells() -> list[Cell]:
    found = [
        Cell(
            f"exposure_{name}_{size}", partial(exposure, rate=rate, size=size), share=2.0 if size == WINDOWS[0] else 1.0
        )
        for name, rate in RATES.items()
        for size in WINDOWS
    ]
    found += [Cell(f"healthy_{size}", partial(exposure, rate=ERRORS, size=size), share=0.1) for size in WINDOWS]
    return [*found, Cell("exposure_late", late), Cell("soak", soak)]


def exposure(rng: np.random.Generator, rate: float, size: int) -> Outcome:
    """Canary requests until rollback, at a weight of 10 % and in windows of `size` of them."""
    seen = traffic(rng, size, np.full(HORIZON_REQUESTS // size, 0.10))
    bad, stable_bad = rng.binomial(seen.canary, rate), rng.binomial(seen.stable, ERRORS)
    success = 1.0 - bad / seen.canary
    points = slice(kayenta.RUNS * kayenta.POINTS_PER_RUN)
    counts = (column[points] for column in (seen.canary, bad, seen.stable, stable_bad))
    found = {
        "sluice": found_at(shipped.errors(), windows(seen, bad, stable_bad)),
        "argo": argo.STRICT.aborted_at(success),
        "argo_95": argo.DOCUMENTED_CONDITION.aborted_at(success),
        "flagger": flagger.DOCUMENTED.rolled_back_at(success),
        "kayenta": _kayenta_at(rng, kayenta_metric(rng, "errors", *counts)),
    }
    return {name: np.nan if at is None else size * (at + 1.0) for name, at in found.items()}


def found_at(gate: ErrorsGate, seen: Iterable[Window]) -> int | None:
    """Return the number of the window, from 0, with which the gate says regression; None: with none."""
    for number, window in enumerate(seen):
        gate = gate.observe(window)
        if gate.verdict().outcome is Says.regression:
            return number
    return None


def _kayenta_at(rng: np.random.Generator, metric: kayenta.Metric) -> int | None:
    """Its first run is when it has the points it asks for; each run looks back to the beginning."""
    size = kayenta.POINTS_PER_RUN
    runs = range(size, len(metric.canary) + 1, size)
    seen = (kayenta.Metric("errors", metric.canary[:points], metric.baseline[:points]) for points in runs)
    failed = kayenta.failed_at([kayenta.judge([so_far], {"errors": 100.0}, rng).score for so_far in seen])
    return None if failed is None else runs[failed] - 1


def late(rng: np.random.Generator) -> Outcome:
    """Healthy for 10 000 canary requests, then 5 % errors at half of the traffic: requests from then on."""
    gate = shipped.errors()
    for step, (requests, weight) in enumerate(LATE_BEFORE):
        seen = traffic(rng, 30, np.full(requests // 30, weight), step)
        for window in errors(rng, seen, ERRORS, ERRORS):
            gate = gate.observe(window)
    too_early = gate.verdict().outcome is Says.regression
    size = WINDOWS[0]
    seen = traffic(rng, size, np.full(HORIZON_REQUESTS // size, 0.5), len(LATE_BEFORE))
    at = None if too_early else found_at(gate, errors(rng, seen, 0.05, ERRORS))
    return {"requests": np.nan if at is None else size * (at + 1.0), "too_early": too_early}


def soak(rng: np.random.Generator) -> Outcome:
    """A healthy ladder, then 5 % errors in the soak, at 20 requests/s with a look each second: seconds to rollback."""
    gate = shipped.errors()
    for window in errors(rng, ladder(rng, 10), ERRORS, ERRORS):
        gate = gate.observe(window)
    if gate.verdict().outcome is Says.regression:
        return {"seconds": np.nan, "too_early": True}
    at = found_at(gate, _soak_windows(rng, round(shipped.POLICY.soak.total_seconds())))
    return {"seconds": np.nan if at is None else at + 1.0, "too_early": False}


def _soak_windows(rng: np.random.Generator, seconds: int) -> Iterable[Window]:
    canary = rng.binomial(SOAK_REQUESTS_PER_SECOND, 1.0 - HOLDBACK, seconds)
    stable = SOAK_REQUESTS_PER_SECOND - canary
    columns = (canary, rng.binomial(canary, 0.05), stable, rng.binomial(stable, ERRORS))
    for n, e, m, f in zip(*(column.tolist() for column in columns), strict=True):
        yield Window(shipped.SOAK, Arm(n, e), Arm(m, f))
