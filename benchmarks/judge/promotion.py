"""Canaries worse by exactly the margin: how often one is found non-inferior. And equal ones while everything moves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.calibration import INDEPENDENT, measured
from benchmarks.judge.runner import Cell, Outcome
from benchmarks.judge.streams import Counts, Rates, Traffic, bursts, errors, independent, traffic, windows
from sluice.engine.gates import Calibration
from sluice.judge import ErrorsGate, Window
from sluice.judge import Outcome as Says

MARGIN = shipped.POLICY.gates.errors.margin
WINDOWS = 300
CANARY = 20
RAMP_WINDOWS = 100
RAMP_REQUESTS = 4000
Z = 1.96


def cells() -> list[Cell]:
    return [
        Cell("boundary", partial(boundary, base=0.005)),
        Cell("boundary_faultless", partial(boundary, base=0.0)),
        Cell("boundary_ramp", boundary_ramp),
        Cell("boundary_bursts", boundary_bursts),
        Cell("ramp_halves", partial(ramp, first=0.02, last=0.01)),
        Cell("ramp_doubles", partial(ramp, first=0.01, last=0.02)),
    ]


def boundary(rng: np.random.Generator, base: float) -> Outcome:
    """Worse by the margin at a weight of 10 %, with independent errors and the burst factor measured."""
    gate = shipped.errors(Calibration(measured(rng, (0.02,), independent)))
    seen = traffic(rng, CANARY, np.full(WINDOWS, 0.10))
    return {"promoted": _ever_shown(gate, errors(rng, seen, base + MARGIN, base))}


def boundary_ramp(rng: np.random.Generator) -> Outcome:
    """The same while the share rises from 5 to 50 % and the base rate halves, all within one step."""
    gate = shipped.errors(Calibration(measured(rng, (0.02,), independent)))
    weights, base = np.linspace(0.05, 0.5, WINDOWS), np.linspace(0.02, 0.01, WINDOWS)
    seen = traffic(rng, CANARY, weights)
    return {"promoted": _ever_shown(gate, errors(rng, seen, base + MARGIN, base))}


def boundary_bursts(rng: np.random.Generator) -> Outcome:
    """The same at a constant share with errors that come by fives, at the burst factor measured in such traffic."""
    calibration = Calibration(measured(rng, (0.005,), bursts))
    seen = traffic(rng, 50, np.full(WINDOWS, 0.10))
    found = list(errors(rng, seen, 0.005 + MARGIN, 0.005, bursts))
    return {
        "promoted": _ever_shown(shipped.errors(calibration), found),
        "promoted_raw": _ever_shown(shipped.errors(INDEPENDENT), found),
        "kappa": calibration.errors.kappa,
    }


def _ever_shown(gate: ErrorsGate, seen: Iterable[Window]) -> bool:
    """Whether non-inferiority is shown at any look, even one at which a regression would have won."""
    for window in seen:
        gate = gate.observe(window)
        numbers = gate.verdict().numbers
        if numbers["e_non_inferior"] >= numbers["e_non_inferior_limit"]:
            return True
    return False


def ramp(rng: np.random.Generator, first: float, last: float) -> Outcome:
    """Equal versions while the share rises from 5 to 50 % and the base rate moves: our gate, and a pooled z-test."""
    seen = _constant_traffic(rng, np.linspace(0.05, 0.5, RAMP_WINDOWS))
    base = np.linspace(first, last, RAMP_WINDOWS)
    canary_bad, stable_bad = (independent(rng, requests, base) for requests in (seen.canary, seen.stable))
    gate = shipped.errors()
    for window in windows(seen, canary_bad, stable_bad):
        gate = gate.observe(window)
    return {
        "sluice": gate.verdict().outcome is Says.regression,
        "pooled_z": _z_rejects(canary_bad, seen.canary, stable_bad, seen.stable),
    }


def _constant_traffic(rng: np.random.Generator, weights: Rates) -> Traffic:
    """A share that moves inside one step: neither arm's count is fixed."""
    requests = np.full(len(weights), RAMP_REQUESTS)
    canary = rng.binomial(requests, weights)
    return Traffic(np.zeros(len(weights), dtype=np.int64), weights, canary, requests - canary)


def _z_rejects(canary_bad: Counts, canary: Counts, stable_bad: Counts, stable: Counts) -> bool:
    """The two-sample test on the sums, once, at the end, two-sided at 5 %."""
    n, m = int(canary.sum()), int(stable.sum())
    e, f = int(canary_bad.sum()), int(stable_bad.sum())
    pooled = (e + f) / (n + m)
    return bool(abs(e / n - f / m) >= Z * math.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)))
