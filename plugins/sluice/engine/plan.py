"""plan: resolve what is to be released, pin it by digest, refuse what cannot be judged. Reads only.

The plan is the release's first ledger entry; every later task works from that entry, so that an edit of the policy, the
prompt set or the build context does not change a release under way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sluice.engine.consistency import contradictions
from sluice.engine.faults import last_drill, overdue
from sluice.engine.feasibility import problems
from sluice.engine.journal import use_case
from sluice.engine.measured import last_measured
from sluice.errors import BadInput, Refused
from sluice.policy import EDGES_SETTING, Image, ReleasePolicy
from sluice.ports import MODEL_DIR, MODELS, Entry, ImageSpec, Ports, Prompt, Revision, WorkloadSpec, cached_at
from sluice.release import last_good


@dataclass(frozen=True)
class Request:
    """What somebody asked for."""

    release: str
    """The release's id: sorts by time, the same for every attempt of one run."""
    revision: str
    reason: str
    requested_by: str
    triggered_at: datetime
    dry_run: bool = False
    """Plan, build, deploy and examine, then take everything back: no user sees the canary."""
    drill: str = ""
    """The fault that a drill puts into the version, which the examination must stop; "" for a release."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Serving settings that win over the policy's and the revision's: a drill's fault."""


@dataclass(frozen=True)
class Plan:
    """A release, pinned."""

    request: Request
    policy: ReleasePolicy
    revision: Revision
    version: str
    context_digest: str
    prompts_digest: str
    settings: Mapping[str, str]
    """Serving settings: the policy's, overridden by the revision's."""
    nothing_to_do: bool = False
    """The version already has all traffic."""

    @property
    def release(self) -> str:
        return self.request.release

    @property
    def model(self) -> str:
        return self.policy.model

    @property
    def nothing_to_do_sentence(self) -> str:
        return f"nothing to do: {self.model} {self.request.revision} (version {self.version}) already has all traffic"

    def image(self, root: Path) -> ImageSpec:
        image = self.policy.image
        return ImageSpec(
            repository=image.repository,
            version=self.version,
            context=root / image.context,
            revision=self.revision,
            model=self.model,
            base=image.base,
            weights=image.weights,
        )

    def workload(self, image: str) -> WorkloadSpec:
        serving = self.policy.serving
        resources = {"cpu": serving.cpu, "memory": serving.memory}
        if serving.gpu:
            resources["nvidia.com/gpu"] = str(serving.gpu)
        environment = {f"SERVING_{name.upper()}": value for name, value in self.settings.items()}
        if self.policy.image.weights == "cache":
            environment[MODEL_DIR] = str(MODELS / cached_at(self.model, self.revision.digest))
        return WorkloadSpec(self.version, image, self.revision.digest, serving.replicas, resources, environment)

    def to_record(self) -> dict[str, Any]:
        """Plain JSON for the ledger."""
        request = vars(self.request) | {
            "triggered_at": self.request.triggered_at.isoformat(),
            "settings": dict(self.request.settings),
        }
        revision = vars(self.revision) | {
            "location": str(self.revision.location),
            "settings": dict(self.revision.settings),
        }
        return {
            "request": request,
            "policy": self.policy.model_dump(mode="json"),
            "revision": revision,
            "version": self.version,
            "context_digest": self.context_digest,
            "prompts_digest": self.prompts_digest,
            "settings": dict(self.settings),
            "nothing_to_do": self.nothing_to_do,
        }

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Plan:
        request = Request(
            **{**data["request"], "triggered_at": datetime.fromisoformat(data["request"]["triggered_at"])}
        )
        revision = Revision(**{**data["revision"], "location": Path(data["revision"]["location"])})
        return cls(
            request,
            ReleasePolicy.model_validate(data["policy"]),
            revision,
            data["version"],
            data["context_digest"],
            data["prompts_digest"],
            data["settings"],
            data["nothing_to_do"],
        )


def version_of(revision_digest: str, context_digest: str, image: Image, settings: Mapping[str, str]) -> str:
    """Ten hex digits over all that makes a serving image what it is."""
    parts = {
        "revision": revision_digest,
        "context": context_digest,
        "base": image.base,
        "weights": image.weights,
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class _Opening:
    model: str
    release: str


async def plan(ports: Ports, policy: ReleasePolicy, request: Request, root: Path) -> Plan:
    """Resolve and pin. Raises BadInput or Ambiguous for what cannot be released; nothing was touched then."""
    opening = _Opening(policy.model, request.release)
    asked = {"triggered_at": request.triggered_at.isoformat(), "revision": request.revision}
    async with use_case(ports, opening, "plan", more=asked) as journal:
        planned = await _resolve(ports, policy, request, root)
        await journal.note("plan", planned.to_record())
        if planned.nothing_to_do:
            # No other use case of this release runs: its outcome stands here or nowhere.
            await journal.note("concluded", {"outcome": "nothing_to_do", "sentence": planned.nothing_to_do_sentence})
    return planned


async def _resolve(ports: Ports, policy: ReleasePolicy, request: Request, root: Path) -> Plan:
    revision = await ports.revisions.resolve(request.revision)
    if EDGES_SETTING in revision.settings:
        raise BadInput(
            f"revision {revision.name}: its serving.json sets {EDGES_SETTING}, by which the policy's limits are "
            "measured; set it in the policy's serving.settings"
        )
    settings = {name: str(value) for name, value in policy.serving.settings.items()} | dict(revision.settings)
    settings |= dict(request.settings)
    context_digest = await ports.images.context_digest(root / policy.image.context)
    version = version_of(revision.digest, context_digest, policy.image, settings)
    prompts = await ports.prompts(root / policy.gates.quality.prompts)
    await _refuse_what_cannot_work(ports, policy, request, prompts)
    seen = await ports.traffic.read()
    at_rest = seen.record is None or seen.record.closed
    if at_rest:
        last_good(seen.weights, policy.model)
    return Plan(
        request,
        policy,
        revision,
        version,
        context_digest,
        prompts_digest(prompts),
        settings,
        nothing_to_do=at_rest and dict(seen.weights) == {version: 100},
    )


async def _refuse_what_cannot_work(
    ports: Ports, policy: ReleasePolicy, request: Request, prompts: Sequence[Prompt]
) -> None:
    """Raises BadInput for a policy that could never come to a verdict, Refused if its drills are too old."""
    if request.drill:  # it needs no users' traffic, and is itself what may be missing
        found = contradictions(policy, prompts)
    else:
        load, calibration = await last_measured(ports.ledger, policy.model)
        found = problems(policy, prompts, load.rate if load else None, calibration)
        if late := overdue(policy, await last_drill(ports.ledger, policy.model), ports.clock.now()):
            raise Refused(late)
    if policy.image.weights == "cache" and ports.cache is None:
        found = [*found, "image.weights: cache, but SLUICE_MODEL_CACHE is not set; set it (docs/model-cache.md)"]
    if found:
        raise BadInput("\n".join(found))


def pinned_in(entries: Sequence[Entry], model: str, release: str) -> Plan:
    """The plan that a release was opened with. Raises Refused if its entries hold none."""
    for entry in entries:
        if entry.kind == "plan":
            return Plan.from_record(entry.data)
    raise Refused(f"{model}: the ledger holds no plan of release {release}; trigger a new release")


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """`sha256:<hex>` over the prompt set's content, whatever its formatting."""
    content = json.dumps([vars(prompt) for prompt in prompts], sort_keys=True)
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()
