"""A canary made of stable's own counts: dealt out of its windows, and then made as faulty as one likes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy.random import Generator

from sluice.engine.gates import Calibration
from sluice.judge import Dispersion
from sluice.ports import Timing, Totals


@dataclass(frozen=True)
class Fault:
    """What is wrong with a canary."""

    name: str
    """After `a canary`: with twice as many failing requests."""
    failing_times: int = 1
    failing_more: float = 0.0
    """Share of the good requests that fail too."""
    slow_times: int = 1

    def into(self, totals: Totals, base: Totals, rng: Generator) -> Totals:
        """The counts, had the version this fault; `base`: all that was recorded, whose rates are multiplied.

        Good requests turn bad one by one. (To multiply the bad ones of each window would lose most of them: a window
        with a single request of the canary has no second one that could fail.)
        """
        failing, slow = self.failing_times, self.slow_times
        more = self.failing_more
        return replace(
            totals,
            failed=_turned(totals.answered, totals.failed, _extra(base.answered, base.failed, failing) + more, rng),
            attempts_failed=_turned(
                totals.attempts,
                totals.attempts_failed,
                _extra(base.attempts, base.attempts_failed, failing) + more,
                rng,
            ),
            timings={
                metric: {
                    name: _slower(timing, base.timings[metric][name], slow, rng) for name, timing in strata.items()
                }
                for metric, strata in totals.timings.items()
            },
        )


def _slower(timing: Timing, base: Timing, times: int, rng: Generator) -> Timing:
    return Timing(timing.requests, _turned(timing.requests, timing.slow, _extra(base.requests, base.slow, times), rng))


def _extra(requests: int, bad: int, times: int) -> float:
    """The chance of a good request to turn bad that makes the rate of bad ones so many times as large."""
    return min(1.0, (times - 1) * bad / (requests - bad)) if requests > bad else 0.0


def _turned(requests: int, bad: int, chance: float, rng: Generator) -> int:
    return bad + int(rng.binomial(requests - bad, min(1.0, chance))) if chance else bad


HEALTHY = Fault("as good as stable")
FAULTS = (
    Fault("with twice as many failing requests", failing_times=2),
    Fault("with five times as many failing requests", failing_times=5),
    Fault("that fails 5 % more of its requests", failing_more=0.05),
    Fault("with twice as many slow requests", slow_times=2),
)


def dealt(totals: Totals, share: float, calibration: Calibration, rng: Generator) -> tuple[Totals, Totals]:
    """The canary's part of a window's counts and stable's: each request, or burst of bad ones, goes its own way.

    Given how many requests the canary gets, its bad ones are hypergeometric; bursts as large as the burst factor φ give
    the split the variance that was measured between stable's pods.
    """
    failing, slow = _burst(calibration.errors), _burst(calibration.latency)
    started, _ = _dealt(totals.started, 0, share, 1, rng)
    answered, failed = _dealt(totals.answered, totals.failed, share, failing, rng)
    attempts, attempts_failed = _dealt(totals.attempts, totals.attempts_failed, share, failing, rng)
    completed, _ = _dealt(totals.completed, 0, share, 1, rng)
    canary = Totals(
        started=started,
        answered=answered,
        failed=failed,
        attempts=attempts,
        attempts_failed=attempts_failed,
        timings={
            metric: {name: Timing(*_dealt(t.requests, t.slow, share, slow, rng)) for name, t in strata.items()}
            for metric, strata in totals.timings.items()
        },
        completed=completed,
        behaviour={
            event: int(rng.hypergeometric(count, totals.completed - count, completed))
            for event, count in totals.behaviour.items()
        },
    )
    return canary, _without(totals, canary)


def _burst(dispersion: Dispersion) -> int:
    return max(1, round(dispersion.factor)) if dispersion.measured else 1


def _dealt(requests: int, bad: int, share: float, burst: int, rng: Generator) -> tuple[int, int]:
    """The canary's requests and bad requests."""
    bursts, rest = divmod(bad, burst)
    ours = burst * int(rng.binomial(bursts, share)) + (rest if rng.random() < share else 0)
    return ours + int(rng.binomial(requests - bad, share)), ours


def _without(totals: Totals, part: Totals) -> Totals:
    return Totals(
        started=totals.started - part.started,
        answered=totals.answered - part.answered,
        failed=totals.failed - part.failed,
        attempts=totals.attempts - part.attempts,
        attempts_failed=totals.attempts_failed - part.attempts_failed,
        timings={
            metric: {
                name: Timing(t.requests - part.timings[metric][name].requests, t.slow - part.timings[metric][name].slow)
                for name, t in strata.items()
            }
            for metric, strata in totals.timings.items()
        },
        completed=totals.completed - part.completed,
        behaviour={event: count - part.behaviour[event] for event, count in totals.behaviour.items()},
    )


def nothing(totals: Totals) -> Totals:
    """The counters of the same names before anybody asked."""
    timings = {metric: dict.fromkeys(strata, Timing(0, 0)) for metric, strata in totals.timings.items()}
    return Totals(timings=timings, behaviour=dict.fromkeys(totals.behaviour, 0))
