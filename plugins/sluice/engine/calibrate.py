"""How bursty stable's bad events are: measured between its own pods, before anybody sees the canary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from sluice.engine.gates import Calibration
from sluice.engine.journal import Journal
from sluice.engine.plan import Plan
from sluice.errors import Unreachable
from sluice.judge import Arm, dispersion_of_pods
from sluice.ports import Ports, Totals
from sluice.release import Record

LONGEST_PAST = timedelta(hours=6)
MOST_WINDOWS = 360


async def calibrate(ports: Ports, plan: Plan, record: Record, journal: Journal) -> Calibration:
    """Measured where the metrics keep a past and stable has more than one pod; unmeasured factors are careful ones."""
    past: Sequence[Mapping[str, Totals]] = []
    if not record.first:
        windows = min(MOST_WINDOWS, LONGEST_PAST // plan.policy.tick)
        try:
            past = await ports.telemetry.past(
                record.last_good, plan.policy.gates.limits_seconds, plan.policy.tick, windows
            )
        except Unreachable:
            past = []
    calibration = measured(past)
    await journal.note("calibrated", calibration.to_record())
    return calibration


def measured(past: Sequence[Mapping[str, Totals]]) -> Calibration:
    """From each pod's increases, window by window."""
    return Calibration(
        errors=dispersion_of_pods(
            {pod: Arm(totals.attempts, totals.attempts_failed) for pod, totals in window.items()} for window in past
        ),
        latency=dispersion_of_pods({pod: _slow(totals) for pod, totals in window.items()} for window in past),
        behaviour=dispersion_of_pods(_odd(past)),
    )


def _odd(past: Sequence[Mapping[str, Totals]]) -> Iterator[Mapping[str, Arm]]:
    """A window for each kind of event: what brings one kind in bursts need not bring the others."""
    for window in past:
        for event in {event for totals in window.values() for event in totals.behaviour}:
            yield {pod: Arm(totals.completed, totals.behaviour.get(event, 0)) for pod, totals in window.items()}


def _slow(totals: Totals) -> Arm:
    """Whole requests; the other metrics are late in the same moments."""
    timings = totals.timings.get("e2e", {}).values()
    return Arm(sum(timing.requests for timing in timings), sum(timing.slow for timing in timings))
