"""What a policy would do with the traffic there is: false alarms, and how soon it finds faults. Pure.

Recorded windows of stable are drawn again in blocks of neighbours, which keeps bursts and busy hours together, and the
counts of each are dealt out to stable and a pseudo-canary by the ladder's weights. So both are the same version, and
whatever the gates say against the canary is a false alarm. Then faults are put into the canary's part. Every release is
judged by what judges real ones, `Evidence` and `decide`, from its first weight to the end of its soak.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from numpy.random import Generator

from sluice.engine.calibrate import measured
from sluice.engine.decision import Action, decide
from sluice.engine.evidence import Evidence, window_record
from sluice.engine.feasibility import span
from sluice.engine.gates import Calibration
from sluice.engine.pseudo_canary import FAULTS, HEALTHY, Fault, dealt, nothing
from sluice.engine.recorded import Load, Recorded, added, load
from sluice.errors import BadInput
from sluice.judge import Outcome
from sluice.policy import ReleasePolicy
from sluice.ports import Totals
from sluice.release import HOLDBACK

WINDOWS_NEEDED = 100
REQUESTS_NEEDED = 1000
BLOCKS = 10
"""The record is drawn from in blocks of a tenth of it: long enough for bursts, short enough to differ."""
CANARY, STABLE = "canary", "stable"
START = datetime(2026, 1, 1, tzinfo=UTC)


class End(StrEnum):
    """How a release ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    """A gate said `regression`."""
    UNPROVEN = "unproven"
    """max_hold, or the policy for data that are not fresh, gave it up."""


@dataclass(frozen=True)
class Course:
    """One release that was played."""

    end: End
    seconds: float
    """From the first weight to the verdict."""
    canary_requests: int
    """Users whom the canary answered until then."""


@dataclass(frozen=True)
class Found:
    """What came of all releases with one fault."""

    fault: str
    releases: int
    ends: Mapping[End, int]
    limits: tuple[float, float]
    """95 % confidence limits of the share of releases that a gate rolls back (Clopper & Pearson)."""
    seconds: tuple[float, float] | None
    """Median and p90 until that happened (of a healthy version: until it was promoted); None if it never did."""
    canary_requests: tuple[int, int] | None
    """The same in users whom the canary answered."""

    def share(self, end: End) -> float:
        return self.ends.get(end, 0) / self.releases


@dataclass(frozen=True)
class Tuned:
    """A policy's behaviour on recorded traffic."""

    load: Load
    windows: int
    window_seconds: float
    calibration: Calibration
    """Burst factors between stable's pods; unmeasured where the record does not tell pods apart."""
    found: tuple[Found, ...]
    """Of the healthy version first."""
    left_out: tuple[str, ...]
    """Faults that the record does not allow to play."""

    @property
    def sentences(self) -> Sequence[str]:
        """Each finding in plain words."""
        healthy, *ill = self.found
        return [_of_healthy(healthy), *(_of_fault(found, self.load.rate) for found in ill), *self.left_out]


def tune(
    policy: ReleasePolicy,
    recorded: Sequence[Recorded],
    rng: Generator,
    repetitions: int,
    progress: Callable[[str], None] = lambda sentence: None,
) -> Tuned:
    """Play `repetitions` whole releases without a fault, and with each of FAULTS. Raises BadInput: too little data."""
    windows = looks(recorded, policy.tick.total_seconds())
    traffic = _enough(policy, windows)
    calibration = measured([window.pods for window in windows])
    faults = [fault for fault in FAULTS if _possible(fault, traffic)]
    base = added(window.totals for window in windows)
    unseen = nothing(base)
    empty = Evidence.of(policy, CANARY, STABLE).calibrated(calibration)
    opened = empty.observe(window_record(-1, {CANARY: unseen, STABLE: unseen}), START)
    found = []
    for fault in (HEALTHY, *faults):
        progress(f"plays {repetitions} releases of a canary {fault.name} …")
        courses = [_course(opened, _drawn(windows, rng), fault, base, rng) for _ in range(repetitions)]
        found.append(_summed(fault, courses))
    left_out = [f"a canary {fault.name}: stable had none" for fault in FAULTS if fault not in faults]
    seconds = sum(window.seconds for window in windows) / len(windows)
    return Tuned(traffic, len(windows), seconds, calibration, tuple(found), tuple(left_out))


# --- the record ------------------------------------------------------------------------------------------------------


def looks(recorded: Sequence[Recorded], tick_seconds: float) -> Sequence[Recorded]:
    """Neighbours joined until each window has a tick's traffic, or nearly; one that has more is left as it is."""
    joined: list[Recorded] = []
    pending: list[Recorded] = []
    for window in recorded:
        pending.append(window)
        if sum(part.seconds for part in pending) >= 0.9 * tick_seconds:
            joined.append(_joined(pending))
            pending = []
    return joined


def _joined(parts: Sequence[Recorded]) -> Recorded:
    pods = {pod: added(part.pods[pod] for part in parts if pod in part.pods) for part in parts for pod in part.pods}
    return Recorded(pods, sum(part.seconds for part in parts))


def _enough(policy: ReleasePolicy, windows: Sequence[Recorded]) -> Load:
    found = load(windows)
    requests = sum(window.totals.answered for window in windows)
    if found is None or len(windows) < WINDOWS_NEEDED or requests < REQUESTS_NEEDED:
        raise BadInput(
            f"{policy.model}: the record has {len(windows)} windows of a tick ({policy.tick.total_seconds():g} s) with "
            f"{requests} requests of stable's; tune needs at least {WINDOWS_NEEDED} windows and {REQUESTS_NEEDED} "
            "requests: release more often, or take the past from Prometheus"
        )
    return found


def _possible(fault: Fault, traffic: Load) -> bool:
    """Twice nothing is nothing."""
    return (fault.failing_times == 1 or traffic.base_rate > 0) and (fault.slow_times == 1 or traffic.slow_rate > 0)


def _drawn(windows: Sequence[Recorded], rng: Generator) -> Iterator[Recorded]:
    """The circular block bootstrap (Politis & Romano 1992), without end."""
    length = math.ceil(len(windows) / BLOCKS)
    while True:
        start = int(rng.integers(len(windows)))
        for offset in range(length):
            yield windows[(start + offset) % len(windows)]


# --- one release -----------------------------------------------------------------------------------------------------


def _course(evidence: Evidence, windows: Iterator[Recorded], fault: Fault, base: Totals, rng: Generator) -> Course:
    """From the first weight to the end of the soak, or to what stops it."""
    policy, seen, now = evidence.policy, evidence.last or {}, START
    for step, weight in enumerate((*policy.ladder, 100 - HOLDBACK)):
        evidence = evidence.enter(step, {CANARY: weight, STABLE: 100 - weight}, now)
        action = Action.HOLD
        while action is Action.HOLD:
            window = next(windows)
            canary, stable = dealt(window.totals, weight / 100, evidence.calibration, rng)
            new = {CANARY: fault.into(canary, base, rng), STABLE: stable}
            seen = {version: added((seen[version], counters)) for version, counters in new.items()}
            now += timedelta(seconds=window.seconds)
            evidence = evidence.observe(window_record(step, seen), now)
            look = evidence.look(step, now)
            action = decide(policy, look).action
        if action is Action.ROLL_BACK:
            regression = any(verdict.outcome is Outcome.regression for verdict in look.verdicts)
            end = End.ROLLED_BACK if regression else End.UNPROVEN
            return Course(end, (now - START).total_seconds(), seen[CANARY].answered)
    return Course(End.PROMOTED, (now - START).total_seconds(), seen[CANARY].answered)


# --- what came of it -------------------------------------------------------------------------------------------------


def _summed(fault: Fault, courses: Sequence[Course]) -> Found:
    ends = Counter(course.end for course in courses)
    told = [course for course in courses if course.end is (End.PROMOTED if fault is HEALTHY else End.ROLLED_BACK)]
    seconds = sorted(course.seconds for course in told)
    requests = sorted(course.canary_requests for course in told)
    return Found(
        fault.name,
        len(courses),
        dict(ends),
        confidence_limits(ends[End.ROLLED_BACK], len(courses)),
        (_quantile(seconds, 0.5), _quantile(seconds, 0.9)) if told else None,
        (int(_quantile(requests, 0.5)), int(_quantile(requests, 0.9))) if told else None,
    )


def _of_healthy(found: Found) -> str:
    alarms, unproven, promoted = (found.ends.get(end, 0) for end in (End.ROLLED_BACK, End.UNPROVEN, End.PROMOTED))
    after = f", after {span(found.seconds[0])} (median)" if found.seconds else ""
    return (
        f"a healthy canary is rolled back by mistake in {alarms} of {found.releases} releases (95 % limits: "
        f"{_limits(found)}); {unproven} find no verdict within max_hold, {promoted} are promoted{after}"
    )


def _of_fault(found: Found, rate: float) -> str:
    rolled_back = f"{100 * found.share(End.ROLLED_BACK):.3g} % of releases (95 % limits: {_limits(found)})"
    canary = f"at your traffic ({rate:.3g} requests/s) a canary {found.fault}"
    promoted = f"{100 * found.share(End.PROMOTED):.3g} % are promoted"
    if found.seconds is None or found.canary_requests is None:
        return f"{canary} is never rolled back for it; {promoted}"
    when = f"after {span(found.seconds[0])} (median), having answered {found.canary_requests[0]} users"
    return f"{canary} is rolled back in {rolled_back}, {when}; {promoted}"


def _limits(found: Found) -> str:
    low, high = found.limits
    return f"{100 * low:.3g} to {100 * high:.3g} %"


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[math.ceil(q * len(ordered)) - 1]


def confidence_limits(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact limits of a share (Clopper & Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = 0.0 if not successes else _bisected(lambda p: 1 - _at_most(successes - 1, trials, p) < tail)
    high = 1.0 if successes == trials else _bisected(lambda p: _at_most(successes, trials, p) > tail)
    return low, high


def _at_most(successes: int, trials: int, p: float) -> float:
    """P(X ≤ successes) of a binomial X, 0 < p < 1."""
    return sum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(p)
            + (trials - k) * math.log1p(-p)
        )
        for k in range(successes + 1)
    )


def _bisected(below: Callable[[float], bool]) -> float:
    """The p in 0…1 up to which `below` holds."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
