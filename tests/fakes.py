"""The world in memory: one small program behind each port, and users who send requests as time passes.

Nothing happens by itself: time passes when somebody sleeps, and whatever was put on the clock happens at its moment.
Every call of a port crosses the `Wire`, where a server is down, an answer is lost, or the calling process dies.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy

from sluice import release as state
from sluice.errors import BadInput, Conflict, LeaseHeld, Superseded, Unreachable
from sluice.ledger.chain import GENESIS, seal
from sluice.policy import Rubric
from sluice.ports import (
    Answer,
    CachedRevision,
    Distribution,
    Entry,
    ImageSpec,
    LeaseState,
    Ports,
    Prompt,
    Revision,
    Role,
    RouteState,
    Timing,
    Totals,
    WorkloadSpec,
    WorkloadStatus,
)
from sluice.release import Record

MORNING = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


# --- time and the wire -----------------------------------------------------------------------------------------------


class FakeClock:
    """Stands still until somebody sleeps; then what was planned for that time happens, in order."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.passing: list[Callable[[float], None]] = []
        """Called with each stretch of time, in seconds, in which nothing else happens."""
        self._planned: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = itertools.count()

    def now(self) -> datetime:
        return MORNING + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self._planned and self._planned[0][0] <= until:
            at, _, happening = heapq.heappop(self._planned)
            self._pass(at)
            outcome = happening()
            if isinstance(outcome, Awaitable):
                await outcome
        self._pass(until)
        await asyncio.sleep(0)

    def after(self, seconds: float, happening: Callable[[], Any]) -> None:
        """Plan something, plain or async, for `seconds` from now."""
        heapq.heappush(self._planned, (self.seconds + seconds, next(self._number), happening))

    def _pass(self, until: float) -> None:
        stretch = max(0.0, until - self.seconds)
        self.seconds += stretch
        for listener in self.passing if stretch else ():
            listener(stretch)


class Killed(BaseException):
    """`kill -9`: no handler of the library sees it, and a dead process calls nothing any more."""


@dataclass
class Wire:
    """What every call of a port crosses, on its way there and back."""

    calls: list[str] = field(default_factory=list)
    """`port.verb` of each call of the present process."""
    kill_at: int | None = None
    """The call, counted from 0, before which the process dies."""
    lose_answer_of: int | None = None
    """The call whose effect happens, but whose answer never arrives."""
    down: set[str] = field(default_factory=set)
    """Ports that do not answer."""

    def new_process(self, *, kill_at: int | None = None, lose_answer_of: int | None = None) -> None:
        self.calls, self.kill_at, self.lose_answer_of = [], kill_at, lose_answer_of

    @asynccontextmanager
    async def call(self, port: str, verb: str) -> AsyncIterator[None]:
        number = len(self.calls)
        if self.kill_at is not None and number >= self.kill_at:
            raise Killed(f"before {port}.{verb}")
        self.calls.append(f"{port}.{verb}")
        if port in self.down:
            raise Unreachable(f"the {port} does not answer; start it")
        yield
        if number == self.lose_answer_of:
            raise Unreachable(f"the {port} broke off in the middle of its answer; start it")


# --- versions and their users ----------------------------------------------------------------------------------------


@dataclass
class Behaviour:
    """How one version's pods are, whatever the release thinks of them."""

    correct: float = 1.0
    """Share of probes that it answers correctly."""
    failing: float = 0.0
    """Share of users' requests that fail."""
    slow: float = 0.0
    """Share of users' requests that are over every limit."""
    hanging: float = 0.0
    """Share of users' requests that never end."""
    odd: float = 0.0
    """Share of users' answers, and of probes, that are cut off."""
    probe_seconds: float = 0.05
    """How long a probe's answer takes."""
    divergence: float = 0.0
    """Nats per token by which its log-probabilities differ from everybody else's."""
    fails_from_weight: int = 0
    """It fails only under load: from this weight on."""
    starts_in_seconds: float = 1.0
    """From its creation until it is ready; `math.inf` for never."""
    crashed: str = ""
    """Why it cannot serve."""
    series: bool = True
    """Whether its counters are in the metrics."""


class Versions(dict[str, Behaviour]):
    """Behaviour by version; those of which nothing is said are faultless."""

    def __missing__(self, version: str) -> Behaviour:
        return self.setdefault(version, Behaviour())


STRATA = {"ttft": ("short", "long"), "tpot": ("short/long", "long/long"), "e2e": ("short", "long")}
"""Metric → strata, as the servers announce them."""


class FakeTelemetry:
    """Users send requests at a steady rate; the written weights, nothing else, say where each goes."""

    def __init__(self, wire: Wire, traffic: FakeTraffic, versions: Versions, clock: FakeClock) -> None:
        self.wire, self.traffic, self.versions = wire, traffic, versions
        self.per_second = 40.0
        self.counters: dict[str, Totals] = {}
        self.pods_past: list[Mapping[str, Totals]] = []
        """What the metrics keep of stable's pods, window by window."""
        self._rng = numpy.random.default_rng(11)
        self._due = 0.0
        clock.passing.append(self._send)

    async def totals(self, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
        async with self.wire.call("telemetry", "totals"):
            assert sorted(limits_seconds) == ["e2e", "in_flight", "tpot", "ttft"]
            seen = {version: self.counters[version] for version in versions if version in self.counters}
            return {version: counters for version, counters in seen.items() if self.versions[version].series}

    async def distributions(self, versions: Sequence[str]) -> Mapping[str, Mapping[str, Distribution]]:
        async with self.wire.call("telemetry", "distributions"):
            whole = {version: self.counters[version].completed for version in versions if version in self.counters}
            return {version: {"e2e": {0.05: count // 2, math.inf: count}} for version, count in whole.items()}

    async def past(
        self, version: str, limits_seconds: Mapping[str, float], window: timedelta, windows: int
    ) -> Sequence[Mapping[str, Totals]]:
        async with self.wire.call("telemetry", "past"):
            return self.pods_past[-windows:]

    def started_at(self, version: str) -> int:
        return self.counters[version].started if version in self.counters else 0

    def _send(self, seconds: float) -> None:
        self._due += seconds * self.per_second
        requests, self._due = int(self._due), self._due % 1
        shares = {version: share for version, share in self.traffic.weights.items() if version != state.NO_VERSION}
        if shares:
            counts = self._rng.multinomial(requests, [share / 100 for share in shares.values()])
            for version, count in zip(shares, counts.tolist(), strict=True):
                if count:
                    self._arrive(version, count, shares[version])

    def _arrive(self, version: str, requests: int, weight: int) -> None:
        how = self.versions[version]
        failing = 1.0 if how.crashed else how.failing if weight >= how.fails_from_weight else 0.0
        hanging = int(self._rng.binomial(requests, how.hanging))
        ended = requests - hanging
        failed = int(self._rng.binomial(ended, failing))
        whole = ended - failed
        lengths = self._rng.multinomial(whole, [0.5, 0.5]).tolist()
        slow = [int(self._rng.binomial(count, how.slow)) for count in lengths]
        now = {metric: dict(zip(strata, map(Timing, lengths, slow), strict=True)) for metric, strata in STRATA.items()}
        before = self.counters.get(version, Totals())
        self.counters[version] = Totals(
            started=before.started + requests,
            answered=before.answered + ended,
            failed=before.failed + failed,
            attempts=before.attempts + ended,
            attempts_failed=before.attempts_failed + failed,
            overdue=before.overdue + hanging,
            timings={metric: _sum(before.timings.get(metric, {}), timings) for metric, timings in now.items()},
            completed=before.completed + whole,
            behaviour={
                "empty": 0,
                "truncated": before.behaviour.get("truncated", 0) + int(self._rng.binomial(whole, how.odd)),
            },
        )


def _sum(before: Mapping[str, Timing], more: Mapping[str, Timing]) -> dict[str, Timing]:
    nothing = Timing(0, 0)
    return {
        stratum: Timing(
            before.get(stratum, nothing).requests + timing.requests, before.get(stratum, nothing).slow + timing.slow
        )
        for stratum, timing in more.items()
    }


# --- traffic ---------------------------------------------------------------------------------------------------------


class FakeTraffic:
    """One VirtualService: weights and record change together, and only if the object is still as it was seen."""

    def __init__(self, wire: Wire, clock: FakeClock, weights: Mapping[str, int]) -> None:
        self.wire, self._clock = wire, clock
        self.weights = dict(weights)
        self.record: Record | None = None
        self.subsets = set(weights)
        self.generation = 1
        self.conflicts = 0
        """How many of the next writes come too late: somebody has touched the object."""
        self.written: list[tuple[float, dict[str, int]]] = []
        """(seconds, weights) after each write that changed the weights."""

    async def read(self) -> RouteState:
        async with self.wire.call("traffic", "read"):
            return self._state()

    async def write(self, seen: RouteState, record: Record) -> RouteState:
        async with self.wire.call("traffic", "write"):
            return self._replace(seen, record, ("uid", "resource_version", "weights"))

    async def restore(self, seen: RouteState, record: Record) -> RouteState:
        async with self.wire.call("traffic", "restore"):
            if self.record is None or self.record.release != record.release:
                raise Superseded(f"release {record.release} no longer owns the traffic; nothing was written")
            return self._replace(seen, record, ("uid", "record", "weights"))

    async def sweep(self, keep: Sequence[str]) -> None:
        async with self.wire.call("traffic", "sweep"):
            self.subsets &= {*keep, *self.weights}

    def edit(self, weights: Mapping[str, int]) -> None:
        """What a person does with kubectl."""
        self.weights = dict(weights)
        self.generation += 1

    def _state(self) -> RouteState:
        return RouteState(dict(self.weights), self.record, "uid-1", str(self.generation))

    def _replace(self, seen: RouteState, record: Record, tested: Sequence[str]) -> RouteState:
        if self.conflicts:
            self.conflicts -= 1
            self.generation += 1
            raise Conflict("the VirtualService was written by somebody else since it was read")
        if any(getattr(seen, name) != getattr(self._state(), name) for name in tested):
            raise Conflict("the VirtualService is no longer as it was seen")
        weights = dict(state.weights(record))
        if (record, weights) == (self.record, self.weights):
            return self._state()
        assert self.record is None or not self.record.closed or self.record.release != record.release, "closed"
        self.subsets |= {*weights, *state.probed(record).values()}
        if weights != self.weights:
            self.written.append((self._clock.seconds, weights))
        self.record, self.weights, self.generation = record, weights, self.generation + 1
        return self._state()


# --- workloads and lease ---------------------------------------------------------------------------------------------


class FakeWorkloads:
    """Deployments that become ready after a while, or never, or crash."""

    def __init__(self, wire: Wire, versions: Versions, clock: FakeClock) -> None:
        self.wire, self._behaviour, self._clock = wire, versions, clock
        self.specs: dict[str, WorkloadSpec] = {}
        self._created: dict[str, float] = {}

    async def ensure(self, spec: WorkloadSpec) -> None:
        async with self.wire.call("workloads", "ensure"):
            self.specs[spec.version] = spec
            self._created.setdefault(spec.version, self._clock.seconds)

    async def status(self, version: str) -> WorkloadStatus:
        async with self.wire.call("workloads", "status"):
            if version not in self.specs:
                return WorkloadStatus(0, 0, 0, "its Deployment is not there")
            desired, how = self.specs[version].replicas, self._behaviour[version]
            if how.crashed:
                return WorkloadStatus(desired, 0, 3, "CrashLoopBackOff", how.crashed)
            if self._clock.seconds - self._created[version] < how.starts_in_seconds:
                return WorkloadStatus(desired, 0, 0, "the readiness probe failed: loading the weights")
            return WorkloadStatus(desired, desired, 0, "")

    async def remove(self, version: str) -> None:
        async with self.wire.call("workloads", "remove"):
            self.specs.pop(version, None)
            self._created.pop(version, None)

    async def versions(self) -> Sequence[str]:
        async with self.wire.call("workloads", "versions"):
            return sorted(self.specs)

    async def revisions(self) -> Mapping[str, str]:
        async with self.wire.call("workloads", "revisions"):
            return {version: spec.revision for version, spec in self.specs.items()}


class FakeLease:
    """A Lease whose holder may be anybody; its time runs by the fake clock."""

    def __init__(self, wire: Wire, clock: FakeClock) -> None:
        self.wire, self._clock = wire, clock
        self.state: LeaseState | None = None
        self._renewed_at = 0.0
        self._renewals = itertools.count(1)

    async def acquire(self, holder: str, duration: timedelta) -> None:
        async with self.wire.call("lease", "acquire"):
            if self.state and self.state.holder not in ("", holder) and not self._run_out(self.state):
                raise LeaseHeld(f"release {self.state.holder} holds the lease; wait until it is settled")
            self._write(holder, duration)

    async def renew(self, holder: str) -> None:
        async with self.wire.call("lease", "renew"):
            if self.state is None or self.state.holder != holder:
                raise Superseded(f"the lease is not release {holder}'s; nothing was written")
            self._write(holder, self.state.duration)

    async def release(self, holder: str) -> None:
        async with self.wire.call("lease", "release"):
            if self.state and self.state.holder == holder:
                self._write("", self.state.duration)

    async def read(self) -> LeaseState | None:
        async with self.wire.call("lease", "read"):
            return self.state

    @property
    def holder(self) -> str:
        return self.state.holder if self.state else ""

    def _run_out(self, held: LeaseState) -> bool:
        return self._clock.seconds - self._renewed_at >= held.duration.total_seconds()

    def _write(self, holder: str, duration: timedelta) -> None:
        self.state = LeaseState(holder, duration, str(next(self._renewals)))
        self._renewed_at = self._clock.seconds


# --- revisions, images, endpoint, ledger -----------------------------------------------------------------------------


class FakeRevisions:
    """Revisions `r1`, `r2`, …; each one's digest is made from its name."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.known = {name: _revision(name) for name in ("r1", "r2", "r3")}

    async def names(self) -> Sequence[str]:
        async with self.wire.call("revisions", "names"):
            return list(self.known)

    async def resolve(self, name: str) -> Revision:
        async with self.wire.call("revisions", "resolve"):
            if name not in self.known:
                raise BadInput(f"revision {name!r} is unknown; known: {', '.join(self.known)}")
            return self.known[name]


def _revision(name: str) -> Revision:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Revision(name, f"sha256:{digest}", Path("models") / name, {"max_batch": "8"})


class FakeImages:
    """Builds at once."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.context = "sha256:context-1"
        self.built: dict[str, str] = {}
        self.builds = 0

    async def context_digest(self, context: Path) -> str:
        async with self.wire.call("images", "context_digest"):
            return self.context

    async def find(self, repository: str, version: str) -> str | None:
        async with self.wire.call("images", "find"):
            return self.built.get(version)

    async def build(self, spec: ImageSpec, progress: Callable[[str], None]) -> str:
        async with self.wire.call("images", "build"):
            progress(f"building {spec.version}")
            self.builds += 1
            self.built[spec.version] = f"{spec.repository}@sha256:{spec.version}"
            return self.built[spec.version]


class FakeCache:
    """Revisions by digest, each with the time at which it was last wanted."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.wanted: dict[str, datetime] = {}

    async def put(self, model: str, revision: Revision, progress: Callable[[str], None]) -> None:
        async with self.wire.call("cache", "put"):
            self.wanted[revision.digest] = MORNING

    async def revisions(self, model: str) -> Sequence[CachedRevision]:
        async with self.wire.call("cache", "revisions"):
            return [CachedRevision(digest, 1, at) for digest, at in self.wanted.items()]

    async def prune(
        self, model: str, keep: Collection[str], since: datetime, *, dry_run: bool = False
    ) -> Sequence[str]:
        async with self.wire.call("cache", "prune"):
            gone = [digest for digest, at in self.wanted.items() if digest not in keep and at < since]
            if not dry_run:
                self.wanted = {digest: at for digest, at in self.wanted.items() if digest not in gone}
            return gone


CONTRACT = {
    "tokenizer": "sha256:t",
    "chat_template": None,
    "stop_tokens": [2],
    "context_tokens": 512,
    "sampling_defaults": {"temperature": 0.6},
    "api_schema": "sha256:a",
}


class FakeEndpoint:
    """Answers probes by the record's roles and token; which prompts a version gets right is fixed for good."""

    def __init__(self, wire: Wire, traffic: FakeTraffic, versions: Versions) -> None:
        self.wire, self.traffic, self.versions = wire, traffic, versions
        self.asked: list[tuple[str, Role]] = []
        self.contracts: dict[str, Mapping[str, Any]] = {}
        """What versions promise otherwise than the others."""
        self.routed = True
        """Whether the gateway has taken the probe routes."""

    async def ask(self, prompt: Prompt, role: Role, token: str) -> Answer:
        async with self.wire.call("endpoint", "ask"):
            await asyncio.sleep(0)  # others get their turn
            version = self._behind(role, token)
            self.asked.append((prompt.id, role))
            if version is None:
                return Answer("", "", 0, 0, 0.0, None, 0.01, error="HTTP 404: no route")
            drawn = random.Random(f"{version}/{prompt.id}").random()
            how = self.versions[version]
            text = prompt.answer if drawn < how.correct else "wrong"
            reason = "length" if drawn < how.odd else "stop"
            seconds = how.probe_seconds
            return Answer(text, reason, len(prompt.prompt), len(text), 0.4 * seconds, 0.005, seconds)

    async def model_info(self, role: Role, token: str) -> Mapping[str, Any]:
        async with self.wire.call("endpoint", "model_info"):
            version = self._behind(role, token)
            if version is None:
                raise Unreachable(f"the gateway answers HTTP 404 for the {role}; look at its routes")
            return {"version": version, "model": "arithmetic", **CONTRACT, **self.contracts.get(version, {})}

    async def logprobs(self, prompt: str, answer: str, role: Role, token: str) -> Sequence[float] | None:
        async with self.wire.call("endpoint", "logprobs"):
            version = self._behind(role, token)
            return None if version is None else [-1.0 - self.versions[version].divergence for _ in answer]

    def _behind(self, role: Role, token: str) -> str | None:
        record = self.traffic.record
        if record is None or record.token != token or not self.routed:
            return None
        return state.probed(record).get(role)


class FakeLedger:
    """Entries by release, sealed by the real chain."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.by_release: dict[tuple[str, str], list[Entry]] = {}
        self.attached: dict[tuple[str, str, str], bytes] = {}

    async def append(self, model: str, release: str, kind: str, data: Mapping[str, Any], at: datetime) -> Entry:
        async with self.wire.call("ledger", f"append {kind}"):
            entries = self.by_release.setdefault((model, release), [])
            entry = seal(len(entries) + 1, kind, at, data, entries[-1].hash if entries else GENESIS)
            entries.append(entry)
            return entry

    async def entries(self, model: str, release: str) -> Sequence[Entry]:
        async with self.wire.call("ledger", "entries"):
            return list(self.by_release.get((model, release), []))

    async def releases(self, model: str) -> Sequence[str]:
        async with self.wire.call("ledger", "releases"):
            return sorted(release for of, release in self.by_release if of == model)

    async def attach(self, model: str, release: str, name: str, content: bytes) -> str:
        async with self.wire.call("ledger", f"attach {name}"):
            self.attached[model, release, name] = content
            return f"{model}/{release}/{name}"


# --- the world -------------------------------------------------------------------------------------------------------


def prompt_set(size: int) -> list[Prompt]:
    """Sums, in two categories."""
    return [
        Prompt(f"p{number}", ("add", "sub")[number % 2], f"{number}+1=", str(number + 1), "exact", 8)
        for number in range(size)
    ]


async def _score(prompt: Prompt, text: str) -> float:
    return float(text == prompt.answer)


async def _compare(rubric: Rubric, prompt: Prompt, canary: str, stable: str) -> tuple[float, float] | None:
    """A judge that likes nothing but the reference answer."""
    right = [text == prompt.answer for text in (canary, stable)]
    return (0.5, 0.5) if right[0] == right[1] else (float(right[0]), float(right[1]))


def _events(prompt: Prompt, answer: Answer) -> frozenset[str]:
    return frozenset({"truncated"} if answer.finish_reason == "length" else ())


async def _report(entries: Sequence[Entry]) -> bytes:
    return f"{len(entries)} entries".encode()


class World:
    """All of it, for one model whose version `stable` has all traffic; `stable=None` for a model never released."""

    def __init__(self, stable: str | None = "old") -> None:
        self.clock = FakeClock()
        self.wire = Wire()
        self.versions = Versions()
        self.traffic = FakeTraffic(self.wire, self.clock, {stable or state.NO_VERSION: 100})
        self.workloads = FakeWorkloads(self.wire, self.versions, self.clock)
        self.lease = FakeLease(self.wire, self.clock)
        self.revisions = FakeRevisions(self.wire)
        self.images = FakeImages(self.wire)
        self.cache: FakeCache | None = FakeCache(self.wire)
        self.endpoint = FakeEndpoint(self.wire, self.traffic, self.versions)
        self.telemetry = FakeTelemetry(self.wire, self.traffic, self.versions, self.clock)
        self.ledger = FakeLedger(self.wire)
        self.prompts = prompt_set(200)
        self.judge: Callable[[Rubric, Prompt, str, str], Awaitable[tuple[float, float] | None]] = _compare
        if stable:
            self.workloads.specs[stable] = WorkloadSpec(stable, f"image@{stable}", "sha256:old", 2, {}, {})

    @property
    def ports(self) -> Ports:
        return Ports(
            traffic=self.traffic,
            workloads=self.workloads,
            lease=self.lease,
            revisions=self.revisions,
            images=self.images,
            endpoint=self.endpoint,
            telemetry=self.telemetry,
            ledger=self.ledger,
            clock=self.clock,
            cache=self.cache,
            prompts=self._read_prompts,
            score=_score,
            compare=self.judge,
            scorer_versions=lambda prompts: {prompt.scorer: "1" for prompt in prompts},
            events=_events,
            report=_report,
        )

    @property
    def record(self) -> Record:
        assert self.traffic.record is not None
        return self.traffic.record

    def guard_restores(self) -> None:
        """What the guard does to the release that is open now."""
        record = state.rolled_back(self.record, "the guard restored last good")
        self.traffic.record, self.traffic.weights = record, dict(state.weights(record))
        self.traffic.generation += 1

    async def _read_prompts(self, path: Path) -> Sequence[Prompt]:
        async with self.wire.call("prompts", "read"):
            return [replace(prompt) for prompt in self.prompts]
