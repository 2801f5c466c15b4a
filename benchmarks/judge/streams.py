"""Simulated traffic: requests routed at random, in windows that end with the canary's n-th request.

Every function draws a whole release at once, as arrays over windows, from the generator it is given. So one stream can
be shown to several rules, and what one of them does never changes what the next one sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.shipped import HOLD_LOOKS, METRICS, POLICY, STRATA, Look
from sluice.judge import Answers, Arm, Arms, BehaviourWindow, LatencyWindow, Window

Counts = NDArray[np.int64]
Rates = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Counts, float | Rates], Counts]
"""How bad requests come: generator, requests, share of them that are bad → how many are."""

ERRORS = 0.005
"""Share of requests that a healthy version fails."""
MIX = (0.5, 0.3, 0.2)
"""Shares of the strata, in the order of `STRATA`."""
SLOW = np.array((0.02, 0.05, 0.125))
"""Share of slow requests by stratum."""
SLOW_SHARE = float(np.dot(SLOW, MIX))
"""The same over that mix: 5 %."""
ODD = {
    "empty": 0.001,
    "repeated": 0.005,
    "truncated": 0.02,
    "refusal": 0.02,
    "language_switch": 0.002,
    "invalid_json": 0.005,
    "broken_think": 0.002,
    "long": 0.05,
}
"""Share of a healthy version's answers that show an event."""
BURST = 5


@dataclass(frozen=True)
class Traffic:
    """Requests of both arms by window. `steps`: the ladder's index of each window; `weights`: 0…1."""

    steps: Counts
    weights: Rates
    canary: Counts
    stable: Counts

    def __len__(self) -> int:
        return len(self.steps)


def traffic(rng: np.random.Generator, canary: int, weights: Rates, step: int | Counts = 0) -> Traffic:
    """Windows with so many canary requests each, at a weight each."""
    steps = np.broadcast_to(np.asarray(step, dtype=np.int64), weights.shape)
    stable = rng.negative_binomial(canary, weights)
    return Traffic(steps, weights, np.full(len(weights), canary, dtype=np.int64), stable)


def ladder(rng: np.random.Generator, canary: int, looks_at_last: int = HOLD_LOOKS) -> Traffic:
    """A release over the policy's ladder, with as many looks a step as its hold has ticks."""
    looks = [HOLD_LOOKS] * (len(POLICY.steps) - 1) + [looks_at_last]
    steps = np.repeat(np.arange(len(looks)), looks)
    return traffic(rng, canary, np.array(POLICY.ladder)[steps] / 100, steps)


# --- bad events -------------------------------------------------------------------------------------------------------


def independent(rng: np.random.Generator, requests: Counts, rate: float | Rates) -> Counts:
    """Bad requests of one arm by window, each request for itself."""
    return rng.binomial(requests, rate)


def bursts(rng: np.random.Generator, requests: Counts, rate: float | Rates) -> Counts:
    """The same share of bad requests, but five of a window fail together or none does."""
    return np.minimum(requests, BURST * rng.poisson(np.asarray(rate) * requests / BURST))


def errors(
    rng: np.random.Generator,
    seen: Traffic,
    canary: float | Rates,
    stable: float | Rates,
    bad: Draw = independent,
) -> Iterator[Window]:
    """Windows with errors at these rates."""
    return windows(seen, bad(rng, seen.canary, canary), bad(rng, seen.stable, stable))


def windows(seen: Traffic, canary_bad: Counts, stable_bad: Counts) -> Iterator[Window]:
    """The same from counts of bad requests."""
    for step, *counts in _rows(seen.steps, seen.canary, canary_bad, seen.stable, stable_bad):
        yield Window(step, Arm(*counts[:2]), Arm(*counts[2:]))


def _rows(*columns: Counts) -> Iterator[tuple[Any, ...]]:
    """Plain numbers, or lists of them, window by window."""
    return zip(*(column.tolist() for column in columns), strict=True)


# --- latency ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slow:
    """One arm's requests by stratum, and the slow ones by metric: arrays of windows × strata."""

    requests: Counts
    slow: Mapping[str, Counts]


def slowness(
    rng: np.random.Generator, requests: Counts, rates: Mapping[str, Rates], mix: Sequence[float] = MIX
) -> Slow:
    """Requests split over the strata by `mix`, slow at `rates` (metric → a rate for each stratum), each for itself."""
    split = rng.multinomial(requests, mix)
    return Slow(split, {metric: rng.binomial(split, rate) for metric, rate in rates.items()})


def stalls(rng: np.random.Generator, requests: Counts, rate: float) -> Slow:
    """The same, but requests become slow by fives, whatever their stratum: a pause of the server."""
    split = rng.multinomial(requests, MIX)
    return Slow(split, {metric: _of_strata(rng, split, bursts(rng, requests, rate)) for metric in METRICS})


def _of_strata(rng: np.random.Generator, split: Counts, slow: Counts) -> Counts:
    """Which strata the slow requests of each window belong to, all requests being hit alike."""
    first, second, third = split.T
    of_first = rng.hypergeometric(first, second + third, slow)
    of_second = rng.hypergeometric(second, third, slow - of_first)
    return np.column_stack((of_first, of_second, slow - of_first - of_second))


def latencies(seen: Traffic, canary: Slow, stable: Slow) -> Iterator[LatencyWindow]:
    """Windows of all metrics and strata."""
    counts = [_rows(canary.requests, canary.slow[m], stable.requests, stable.slow[m]) for m in METRICS]
    for step, *by_metric in zip(seen.steps.tolist(), *counts, strict=True):
        yield LatencyWindow(step, {name: _strata(*rows) for name, rows in zip(METRICS, by_metric, strict=True)})


def _strata(*rows: Sequence[int]) -> dict[str, Arms]:
    """Arms by stratum, from the canary's requests and slow ones by stratum, and stable's."""
    return {name: Arms(Arm(n, e), Arm(m, f)) for name, n, e, m, f in zip(STRATA, *rows, strict=True)}


def unstratified(window: LatencyWindow) -> LatencyWindow:
    """The same window as a source without strata would show it."""
    metrics = {}
    for metric, strata in window.metrics.items():
        pooled = None
        for arms in strata.values():
            pooled = arms.joined(pooled)
        assert pooled is not None
        metrics[metric] = {"all": pooled}
    return LatencyWindow(window.step, metrics)


# --- behaviour and all of it ------------------------------------------------------------------------------------------


def behaviours(rng: np.random.Generator, seen: Traffic, bad: Draw = independent) -> Iterator[BehaviourWindow]:
    """Windows of two versions that answer alike."""
    arms = [_answers(rng, requests, bad) for requests in (seen.canary, seen.stable)]
    for step, canary, stable in zip(seen.steps.tolist(), *arms, strict=True):
        yield BehaviourWindow(step, canary, stable)


def _answers(rng: np.random.Generator, requests: Counts, bad: Draw) -> Iterator[Answers]:
    events = [bad(rng, requests, rate) for rate in ODD.values()]
    return (Answers(n, dict(zip(ODD, counts, strict=True))) for n, *counts in _rows(requests, *events))


def healthy(rng: np.random.Generator, seen: Traffic) -> Iterator[Look]:
    """Two equal versions as all gates of live traffic see them."""
    rates = dict.fromkeys(METRICS, SLOW)
    arms = [slowness(rng, requests, rates) for requests in (seen.canary, seen.stable)]
    parts = (errors(rng, seen, ERRORS, ERRORS), latencies(seen, *arms), behaviours(rng, seen))
    return itertools.starmap(Look, zip(*parts, strict=True))


def bursty(rng: np.random.Generator, seen: Traffic) -> Iterator[Look]:
    """The same with bursts in all that can go wrong."""
    arms = [stalls(rng, requests, SLOW_SHARE) for requests in (seen.canary, seen.stable)]
    parts = (errors(rng, seen, ERRORS, ERRORS, bursts), latencies(seen, *arms), behaviours(rng, seen, bursts))
    return itertools.starmap(Look, zip(*parts, strict=True))
