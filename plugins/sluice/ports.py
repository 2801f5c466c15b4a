"""The seams between the use cases and the world: one Protocol per outside system, and the plain data that crosses it.

Adapters implement these in their own rooms (cluster, images, revisions, evidence, ledger); fakes for tests are in
tests/fakes.py. Everything is async and raises only the errors of `sluice.errors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from sluice.policy import Rubric
from sluice.release import Record

Role = Literal["stable", "canary"]


# --- traffic ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RouteState:
    """What the VirtualService says: who has how much, and the release's record, read in one piece."""

    weights: Mapping[str, int]
    """Percent of live requests by version, as written (desired); the version `none` stands for "no version yet"."""
    record: Record | None
    """The last release's record; None if the model was never released."""
    uid: str
    resource_version: str


class Traffic(Protocol):
    """One model's VirtualService and DestinationRule."""

    async def read(self) -> RouteState:
        """Raises Ambiguous if the objects do not hold to the rules (named route, v-… subsets, gateway and mesh)."""
        ...

    async def write(self, seen: RouteState, record: Record) -> RouteState:
        """Write `record` and exactly the traffic that it means (weights, probe routes, subsets), in one patch.

        Tests uid, resourceVersion and destinations; raises Conflict if the object is no longer as `seen`. A write that
        changes nothing is not sent.
        """
        ...

    async def restore(self, seen: RouteState, record: Record) -> RouteState:
        """The write back to last good: like `write`, but tests only uid, release id and destinations."""
        ...

    async def sweep(self, keep: Sequence[str]) -> None:
        """Remove subsets `v-…` of versions that are not in `keep`; a subset that a route names is never removed."""
        ...


# --- workloads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkloadSpec:
    """One version's Deployment: what the pipeline sets in the template."""

    version: str
    image: str
    revision: str
    replicas: int
    resources: Mapping[str, str]
    """cpu, memory, nvidia.com/gpu as Kubernetes quantities."""
    environment: Mapping[str, str]
    """Serving settings as environment variables of the server."""


@dataclass(frozen=True)
class WorkloadStatus:
    """How far a version's pods are."""

    desired: int
    ready: int
    restarts: int
    waiting_for: str
    """One sentence: what is not there yet, in the pods' own words (ImagePullBackOff …); "" when all is ready."""
    failed: str = ""
    """Why waiting is pointless (crash loop, image cannot be pulled); "" otherwise."""


class Workloads(Protocol):
    """The versioned Deployments of one model."""

    async def ensure(self, spec: WorkloadSpec) -> None:
        """Create the version's Deployment, or make it equal to the spec; nothing happens if it is."""
        ...

    async def status(self, version: str) -> WorkloadStatus: ...

    async def remove(self, version: str) -> None:
        """Delete the version's Deployment and wait until its pods are gone; nothing happens if it is not there."""
        ...

    async def versions(self) -> Sequence[str]:
        """All versions of the model that have a Deployment."""
        ...

    async def revisions(self) -> Mapping[str, str]:
        """Version → digest of its revision, for all versions that have a Deployment; "" if it names none."""
        ...


# --- lease -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeaseState:
    holder: str
    """Release id; "" if nobody holds it."""
    duration: timedelta
    renewals: str
    """Changes with every renewal; a watcher times by its own monotonic clock since it last changed."""


class Lease(Protocol):
    """A release's claim on its model."""

    async def acquire(self, holder: str, duration: timedelta) -> None:
        """Take or re-take the lease. Raises LeaseHeld if another holder's lease has not run out."""
        ...

    async def renew(self, holder: str) -> None:
        """Raises Superseded if another release holds it by now."""
        ...

    async def release(self, holder: str) -> None:
        """Give it up; nothing happens if `holder` does not hold it."""
        ...

    async def read(self) -> LeaseState | None: ...


# --- revisions and images --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Revision:
    """One immutable state of a model's weights and files."""

    name: str
    """What the person asked for, e.g. `r2`, `main`."""
    digest: str
    """`sha256:<hex>` over the files, or the hub's commit."""
    location: Path
    """Local directory that holds the files."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Serving settings that come with the revision (its serving.json)."""


class Revisions(Protocol):
    """Where a model's revisions come from."""

    async def names(self) -> Sequence[str]:
        """The revisions known at the source, oldest first."""
        ...

    async def resolve(self, name: str) -> Revision:
        """Raises BadInput for an unknown revision (lists the known ones) or one with missing or truncated files."""
        ...


@dataclass(frozen=True)
class ImageSpec:
    """All that goes into one version's image."""

    repository: str
    version: str
    context: Path
    revision: Revision
    model: str = ""
    """The model's name, for the image's labels."""
    base: str = ""
    """Base image of the build; "" for the Dockerfile's own default."""
    weights: Literal["image", "cache"] = "image"
    """Whether the revision's files are in the image, or in a cache that the pods mount."""


class Images(Protocol):
    """Serving images, always referred to by digest."""

    async def context_digest(self, context: Path) -> str:
        """`sha256:<hex>` over what of the build context goes into an image. Raises BadInput if it is no context."""
        ...

    async def find(self, repository: str, version: str) -> str | None:
        """`repository@sha256:<hex>` of the version's image if it exists."""
        ...

    async def build(self, spec: ImageSpec, progress: Callable[[str], None]) -> str:
        """Build, push, and return `repository@sha256:<hex>`; a failed build leaves nothing behind."""
        ...


MODELS = PurePosixPath("/models")
"""Where pods mount the model cache."""


MODEL_DIR = "MODEL_DIR"
"""The server's variable that says where its model is; an image with weights sets it itself."""


def cached_at(model: str, digest: str) -> PurePosixPath:
    """Where in the cache a revision lies, by its `sha256:<hex>` or its commit; the same for workers and pods."""
    return PurePosixPath(model, digest.rpartition(":")[2])


@dataclass(frozen=True)
class CachedRevision:
    """One revision in the cache."""

    name: str
    """Of its folder, see `cached_at`."""
    size_bytes: int
    wanted_at: datetime
    """When it was last known to be wanted, UTC."""


class Cache(Protocol):
    """Revisions' files where the pods of versions whose images are without weights find them."""

    async def put(self, model: str, revision: Revision, progress: Callable[[str], None]) -> None:
        """Have the revision in the cache; nothing is copied if it is. Raises Refused if it cannot be."""
        ...

    async def revisions(self, model: str) -> Sequence[CachedRevision]:
        """What the cache holds of a model, in the order of names. Raises Refused if it cannot be read."""
        ...

    async def prune(
        self, model: str, keep: Collection[str], since: datetime, *, dry_run: bool = False
    ) -> Sequence[str]:
        """Remove revisions whose digest is not in `keep` and that nobody has wanted since; returns their names."""
        ...


# --- evidence --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt set."""

    id: str
    category: str
    prompt: str
    answer: str
    scorer: str
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered to one probe. Times in seconds, definitions in sluice.evidence.endpoint."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    ttft_seconds: float
    tpot_seconds: float | None
    e2e_seconds: float
    error: str = ""
    """"" for a complete answer, else one sentence: status, code, or how the stream broke."""


class Endpoint(Protocol):
    """The model's API as its users reach it: through the gateway."""

    async def ask(self, prompt: Prompt, role: Role, token: str) -> Answer:
        """Probe one version by header; a failed request is an Answer with `error`.

        Raises Unreachable if no gateway answers.
        """
        ...

    async def model_info(self, role: Role, token: str) -> Mapping[str, Any]:
        """`/model_info` of the version behind the header. Raises Unreachable."""
        ...

    async def logprobs(self, prompt: str, answer: str, role: Role, token: str) -> Sequence[float] | None:
        """Log-probability that the version gives each token of `answer` after `prompt`, teacher-forced, in nats.

        None if the version cannot say, as servers without `echo` cannot. Raises Unreachable if no gateway answers.
        """
        ...


@dataclass(frozen=True)
class Timing:
    """Requests of one stratum with a measured time, and how many of them were over the policy's limit."""

    requests: int
    slow: int


@dataclass(frozen=True)
class Totals:
    """Counters of one version since its pods (or the gateway) started; users' requests only, synthetic ones apart."""

    started: int = 0
    """Requests that started at the version."""
    answered: int = 0
    """Requests that users got an answer to, good or bad."""
    failed: int = 0
    """Of those, what users got as failures (5xx, broken streams, no answer)."""
    attempts: int = 0
    """Attempts at the destination that ended, retries included."""
    attempts_failed: int = 0
    overdue: int = 0
    """Requests under way at this moment that are older than the limit `in_flight`: they count before they end."""
    timings: Mapping[str, Mapping[str, Timing]] = field(default_factory=dict)
    """metric (ttft, tpot, e2e) → stratum (prompt or prompt/output length class) → counts. A request that is under way
    and older than the limit counts already, as slow."""
    completed: int = 0
    """Answers that the version's servers completed, as they count them: what `behaviour` is a part of."""
    behaviour: Mapping[str, int] = field(default_factory=dict)
    """event (empty, repeated, truncated, broken_think, …) → answers that showed it."""


Distribution = Mapping[float, int]
"""Bucket edge in seconds (the last one infinite) → requests at most so long, cumulative."""


class Telemetry(Protocol):
    """What users' requests say about versions."""

    async def totals(self, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
        """Counters by version; a version that no series mentions is absent.

        `limits_seconds`: ttft, tpot, e2e and in_flight. Raises Unreachable if a source does not answer.
        """
        ...

    async def distributions(self, versions: Sequence[str]) -> Mapping[str, Mapping[str, Distribution]]:
        """version → metric (ttft, tpot, e2e) → counts since its pods started. Raises Unreachable."""
        ...

    async def past(
        self, version: str, limits_seconds: Mapping[str, float], window: timedelta, windows: int
    ) -> Sequence[Mapping[str, Totals]]:
        """What each pod of a version counted in each of the last `windows` windows, oldest first: pod → increase.

        Empty where the source keeps no past. Raises Unreachable.
        """
        ...


# --- ledger and clock ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One record of the ledger."""

    number: int
    kind: str
    at: datetime
    data: Mapping[str, Any]
    previous_hash: str
    hash: str


class Ledger(Protocol):
    """The append-only record of releases and their evidence."""

    async def append(self, model: str, release: str, kind: str, data: Mapping[str, Any], at: datetime) -> Entry: ...

    async def entries(self, model: str, release: str) -> Sequence[Entry]:
        """All entries of a release in order, none if it is unknown. Raises Refused if the chain of hashes is broken."""
        ...

    async def releases(self, model: str) -> Sequence[str]:
        """Release ids of a model, oldest first."""
        ...

    async def attach(self, model: str, release: str, name: str, content: bytes) -> str:
        """Keep a file beside a release's entries; returns where. The same name again replaces it.

        Attachments are made from entries and can be made again; what must not change stands in entries.
        """
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall clock, UTC: for records."""
        ...

    def monotonic(self) -> float:
        """Seconds; for durations inside one process."""
        ...

    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Ports:
    """Everything a use case may talk to, for one model."""

    traffic: Traffic
    workloads: Workloads
    lease: Lease
    revisions: Revisions
    images: Images
    endpoint: Endpoint
    telemetry: Telemetry
    ledger: Ledger
    clock: Clock
    cache: Cache | None
    """None: there is none, so that every image has its weights."""
    prompts: Callable[[Path], Awaitable[Sequence[Prompt]]]
    """Reads a prompt set. Raises BadInput naming file and line."""
    score: Callable[[Prompt, str], Awaitable[float]]
    """Score of an answer's text, 0 … 1, by any scorer but `rubric`."""
    compare: Callable[[Rubric, Prompt, str, str], Awaitable[tuple[float, float] | None]]
    """Scores, 0 … 1, that a judge model gives the canary's and stable's text, asked blind and in both orders.

    None if what it says is no judgement. Raises Unreachable if it does not answer.
    """
    scorer_versions: Callable[[Sequence[Prompt]], Mapping[str, str]]
    """Version by name of the scorers that prompts use: another version is another scale."""
    events: Callable[[Prompt, Answer], frozenset[str]]
    """The behaviour events that an answer shows (`sluice.policy.BEHAVIOUR_EVENTS`)."""
    report: Callable[[Sequence[Entry]], Awaitable[bytes]]
    """A release's entries → its page, HTML."""
