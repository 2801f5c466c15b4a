"""Slow canaries, length mixes that shift, and bursts in everything."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.calibration import INDEPENDENT, calibrated, measured
from benchmarks.judge.peers import argo
from benchmarks.judge.runner import Cell, Outcome
from benchmarks.judge.shipped import METRICS
from benchmarks.judge.streams import (
    SLOW,
    SLOW_SHARE,
    bursts,
    bursty,
    independent,
    ladder,
    latencies,
    slowness,
    traffic,
    unstratified,
    windows,
)
from sluice.engine.gates import Calibration
from sluice.judge import NOT_MEASURED, LatencyGate, LatencyWindow
from sluice.judge import Outcome as Says

HORIZON_REQUESTS = 6000
WINDOW = 6
"""Canary requests per window, about three, two and one by stratum."""
SINGLE_WINDOW = 3
SLOW_METRIC = "e2e"
LONGER_MIX = (0.25, 0.30, 0.45)
SHORTER_MIX = (0.60, 0.30, 0.10)
BURST_TRAFFIC = (5, 50, 500)
SINGLE_ALPHA = 0.05


def cells() -> list[Cell]:
    return [
        Cell("latency", slower),
        Cell("latency_unmeasured", partial(slower, with_calibration=False), share=0.25),
        Cell("latency_single", slower_single),
        Cell("length_mix", length_mix),
        *(Cell(f"bursts_{requests}", partial(in_bursts, requests=requests)) for requests in BURST_TRAFFIC),
        *(Cell(f"bursts_raw_{n}", partial(in_bursts_raw, requests=n), share=0.2) for n in BURST_TRAFFIC),
    ]


def slower(rng: np.random.Generator, with_calibration: bool = True) -> Outcome:
    """One metric of three becomes slow, 5 → 10 % of requests, twice as many in each stratum; weight 10 %."""
    seen = traffic(rng, WINDOW, np.full(HORIZON_REQUESTS // WINDOW, 0.10))
    stable = dict.fromkeys(METRICS, SLOW)
    arms = slowness(rng, seen.canary, stable | {SLOW_METRIC: 2 * SLOW}), slowness(rng, seen.stable, stable)
    found = measured(rng, (SLOW_SHARE,), independent, 10 * WINDOW) if with_calibration else NOT_MEASURED
    at = _found_at(shipped.latency(Calibration(latency=found)), latencies(seen, *arms))
    return {"requests": math.nan if at is None else WINDOW * (at + 1.0)}


def slower_single(rng: np.random.Generator) -> Outcome:
    """The same as one process: one metric, no strata, α .05."""
    seen = traffic(rng, SINGLE_WINDOW, np.full(HORIZON_REQUESTS // SINGLE_WINDOW, 0.10))
    counted = windows(seen, rng.binomial(seen.canary, 2 * SLOW_SHARE), rng.binomial(seen.stable, SLOW_SHARE))
    latency = shipped.POLICY.gates.latency
    gate = LatencyGate(
        {SLOW_METRIC: ("all",)}, latency.margin, latency.ceiling, shipped.SOAK, kappa=1.0, alpha_regression=SINGLE_ALPHA
    )
    found = (LatencyWindow(window.step, {SLOW_METRIC: {"all": window.attempts}}) for window in counted)
    at = _found_at(gate, found)
    return {"requests": math.nan if at is None else SINGLE_WINDOW * (at + 1.0)}


def _found_at(gate: LatencyGate, seen: Iterable[LatencyWindow]) -> int | None:
    limit = -math.log(gate.alpha_regression)
    for number, window in enumerate(seen):
        gate = gate.observe(window)
        if gate.log_e_regression >= limit:
            return number
    return None


def length_mix(rng: np.random.Generator) -> Outcome:
    """Equal versions over the ladder, but the canary gets the longer prompts: stratified, not, and by its p95."""
    seen = ladder(rng, 100)
    rates = dict.fromkeys(METRICS, SLOW)
    canary, stable = (
        slowness(rng, requests, rates, mix) for requests, mix in ((seen.canary, LONGER_MIX), (seen.stable, SHORTER_MIX))
    )
    gate, plain = shipped.latency(INDEPENDENT), shipped.latency(INDEPENDENT, ("all",))
    for window in latencies(seen, canary, stable):
        gate, plain = gate.observe(window), plain.observe(unstratified(window))
    within = 1.0 - canary.slow[SLOW_METRIC].sum(axis=1) / canary.requests.sum(axis=1)
    stable_slow = stable.slow[SLOW_METRIC].sum() / stable.requests.sum()
    return {
        "sluice": gate.verdict().outcome is Says.regression,
        "unstratified": plain.verdict().outcome is Says.regression,
        "p95": 1.0 - within.mean() > 0.05 >= stable_slow,
        "argo_p95": argo.Analysis(0.95).aborted_at(within) is not None,
    }


def in_bursts(rng: np.random.Generator, requests: int) -> Outcome:
    """Equal versions over the ladder, all that is bad coming by fives; burst factors measured between stable's pods."""
    calibration = calibrated(rng, requests, bursts)
    gates = shipped.gates(calibration).follow(bursty(rng, ladder(rng, requests)))
    verdicts = (gates.errors.verdict(), gates.latency.verdict(), gates.behaviour.verdict())
    return {
        "sluice": gates.regression,
        **{verdict.gate: verdict.outcome is Says.regression for verdict in verdicts},
        "kappa_latency": calibration.latency.kappa,
        "kappa_behaviour": calibration.behaviour.kappa,
    }


def in_bursts_raw(rng: np.random.Generator, requests: int) -> Outcome:
    """The same traffic, every bad event counted for itself."""
    latency, behaviour = shipped.latency(INDEPENDENT), shipped.behaviour(INDEPENDENT)
    for look in bursty(rng, ladder(rng, requests)):
        latency, behaviour = latency.observe(look.latency), behaviour.observe(look.behaviour)
    return {verdict.gate: verdict.outcome is Says.regression for verdict in (latency.verdict(), behaviour.verdict())}
