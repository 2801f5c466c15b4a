"""Stable's traffic as it was recorded: what lint reckons with, and what tune plays again.

Past releases left it in the ledger, Prometheus keeps it by pod. Pure, but for the question to Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sluice.engine.gates import UNMEASURED, Calibration
from sluice.engine.windows import difference, from_record
from sluice.policy import ReleasePolicy
from sluice.ports import Entry, Ports, Timing, Totals
from sluice.release import last_good

PAST_WINDOWS = 720
"""Six hours of half minutes."""


@dataclass(frozen=True)
class Recorded:
    """What stable counted in one window, pod by pod where the source tells pods apart."""

    pods: Mapping[str, Totals]
    """Pod → increase in the window."""
    seconds: float
    """Of the *whole* traffic: the window's length times the share of users' requests that stable had in it."""

    @property
    def totals(self) -> Totals:
        return added(self.pods.values())


@dataclass(frozen=True)
class Load:
    """What users' requests were like, on average."""

    rate: float
    """Requests per second, of all versions together."""
    base_rate: float
    """Share of stable's requests that failed."""
    slow_rate: float
    """Share of stable's requests over a latency limit, by the metric that has most of them."""


def recorded(entries: Sequence[Entry]) -> Sequence[Recorded]:
    """Stable's windows on the ladder of one release; none of a first release, which has no stable version.

    The soak is left out: its tenth of the traffic says little for each second.
    """
    plan = next((entry.data for entry in entries if entry.kind == "plan"), None)
    if plan is None:
        return ()
    return tuple(_windows(entries, plan["version"], len(plan["policy"]["steps"])))


def _windows(entries: Sequence[Entry], canary: str, steps: int) -> Iterator[Recorded]:
    before: Mapping[str, Totals] = {}
    at: datetime | None = None
    weight = 0
    for entry in entries:
        if entry.kind == "shifted":
            weight = entry.data["weights"].get(canary, 0)
        elif entry.kind == "window":
            after = _counters(entry, canary)
            if at is not None and 0 <= entry.data["step"] < steps:
                grown = {version: difference(before[version], after[version]) for version in after if version in before}
                seconds = (entry.at - at).total_seconds() * (100 - weight) / 100
                if grown and seconds > 0:
                    yield Recorded(grown, seconds)
            before, at = {**before, **after}, entry.at


def _counters(entry: Entry, canary: str) -> Mapping[str, Totals]:
    """Of all versions but the canary; none if the entry is older than one of the counters."""
    try:
        return {name: from_record(totals) for name, totals in entry.data["totals"].items() if name != canary}
    except KeyError:
        return {}


async def past(ports: Ports, policy: ReleasePolicy, interval: timedelta) -> Sequence[Recorded]:
    """Stable's windows as Prometheus kept them, none if it kept none; `interval`: how often it scrapes at least.

    Raises Unreachable, Ambiguous while a release is under way.
    """
    window = max(policy.tick, interval)
    stable = last_good((await ports.traffic.read()).weights, policy.model)
    found = await ports.telemetry.past(stable, policy.gates.limits_seconds, window, PAST_WINDOWS)
    return [Recorded({name: _of_users(pod) for name, pod in pods.items()}, window.total_seconds()) for pods in found]


def _of_users(pod: Totals) -> Totals:
    """A pod knows attempts and not whose they were, so each is taken for a user's request.

    Retries hide some failed attempts from users: this is the careful reading. Where no proxy counts attempts there are
    only the answers that the server completed.
    """
    requests, failed = (pod.attempts, pod.attempts_failed) if pod.attempts else (pod.completed, 0)
    return replace(
        pod,
        started=requests,
        answered=requests,
        failed=failed,
        attempts=requests,
        attempts_failed=failed,
        overdue=0,
    )


def calibration_in(entries: Sequence[Entry]) -> Calibration:
    """The burst factors that a release measured."""
    measured = [entry.data for entry in entries if entry.kind == "calibrated"]
    return Calibration.from_record(measured[-1]) if measured else UNMEASURED


def load(windows: Sequence[Recorded]) -> Load | None:
    """The average of all windows; None if nobody sent a request."""
    seconds = sum(window.seconds for window in windows)
    totals = added(pod for window in windows for pod in window.pods.values())
    if not totals.started or not totals.answered:
        return None
    slow = [
        sum(timing.slow for timing in strata.values()) / max(1, sum(timing.requests for timing in strata.values()))
        for strata in totals.timings.values()
    ]
    return Load(totals.started / seconds, totals.failed / totals.answered, max(slow, default=0.0))


def added(parts: Iterable[Totals]) -> Totals:
    """The sum; of `overdue`, which is a state and no count, too."""
    parts = tuple(parts)
    metrics = {metric: None for part in parts for metric in part.timings}
    return Totals(
        started=sum(part.started for part in parts),
        answered=sum(part.answered for part in parts),
        failed=sum(part.failed for part in parts),
        attempts=sum(part.attempts for part in parts),
        attempts_failed=sum(part.attempts_failed for part in parts),
        overdue=sum(part.overdue for part in parts),
        timings={metric: _timings([part.timings.get(metric, {}) for part in parts]) for metric in metrics},
        completed=sum(part.completed for part in parts),
        behaviour=_counts([part.behaviour for part in parts]),
    )


def _timings(parts: Sequence[Mapping[str, Timing]]) -> dict[str, Timing]:
    sums: dict[str, Timing] = {}
    for part in parts:
        for stratum, timing in part.items():
            so_far = sums.get(stratum, Timing(0, 0))
            sums[stratum] = Timing(so_far.requests + timing.requests, so_far.slow + timing.slow)
    return sums


def _counts(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = {name: None for part in parts for name in part}
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
