"""What a person decides about a model's releases: one YAML file per model → `ReleasePolicy`.

Pure apart from reading the file it is given. Every field has a unit and a safe default in its docstring; every mistake
is a BadInput that names file, line, field, and what would be right. Paths are relative to the project (the parent of
releases/).
"""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sluice.errors import BadInput

TIME_EDGES_SECONDS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0),
)
"""Bucket edges of the servers' time histograms: only at an edge is the share of slow requests known exactly."""

LONGEST = timedelta(days=366)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: Any) -> Any:
    """`500ms`, `30s`, `10m`, `2h`, `1d` → timedelta."""
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError("a duration is a number with a unit, for example 500ms, 30s, 10m or 2h")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip())
    if match is None:
        raise ValueError("a duration is a number with a unit, for example 500ms, 30s, 10m or 2h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError("at most a year")
    return timedelta(seconds=seconds)


def _notation(value: timedelta) -> str:
    """What `_duration` reads, to the microsecond."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def _below_100(weight: int) -> int:
    if weight > 99:
        raise ValueError("a ladder ends at 99 or below, because promote is the last write")
    return weight


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("a serving setting is a text, a number, true or false")
    return value


def _limit(value: timedelta) -> timedelta:
    seconds = value.total_seconds()
    if seconds not in TIME_EDGES_SECONDS:
        near = sorted(sorted(TIME_EDGES_SECONDS, key=lambda edge: abs(edge - seconds))[:2])
        raise ValueError(
            f"{seconds:g}s is no bucket edge of the servers' histograms; the nearest are {near[0]:g}s and {near[1]:g}s"
        )
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(_notation, return_type=str),
]
Limit = Annotated[Duration, BeforeValidator(lambda value: _limit(_duration(value)))]
Weight = Annotated[int, Field(ge=1), AfterValidator(_below_100)]
Scalar = Annotated[str | int | float | bool, BeforeValidator(_scalar)]
Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")]


Quantity = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(_Part):
    repository: str
    """Where the serving image is pushed, without a tag: images are referred to by digest."""
    context: Path = Path("model_image")
    """The build context."""
    base: str = ""
    """Base image of the build; "" for the Dockerfile's own default."""


class Serving(_Part):
    namespace: Name
    host: str
    """The public host, as in the VirtualService."""
    replicas: Annotated[int, Field(ge=1)] = 2
    gpu: Annotated[int, Field(ge=0)] = 0
    memory: Quantity = "16Gi"
    """Kubernetes quantity, per pod."""
    cpu: Quantity = "4"
    """Kubernetes quantity, per pod."""
    settings: dict[str, Scalar] = {}
    """Settings of the server (SERVING_<NAME>); a revision's own settings win."""
    route: str = "primary"
    """The name of the HTTP route in the VirtualService whose destinations the release owns."""


class Step(_Part):
    weight: Weight
    """Percent of live requests."""
    hold: Duration = timedelta(minutes=5)
    """The least time at this weight, counted from when the observed share agrees."""
    requests: Annotated[int, Field(ge=1)] = 50
    """The least number of the canary's requests at this weight."""


class Quality(_Part):
    prompts: Path
    """The prompt set, JSON lines."""
    margin: Share = 0.05
    """How much worse the canary's mean score may be (0.05: 5 points)."""
    floor: Share = 0.6
    """Mean score that a model's first release must be shown to reach."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Probes under way at once."""


class Errors(_Part):
    max_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Regression: the canary's failure rate is shown to be more than this times stable's."""
    margin: Share = 0.01
    """Non-inferior: the canary's failure rate is shown to be at most this much higher."""
    floor: Share = 0.95
    """Success rate below which a canary is rolled back at once, if stable is not below it as well."""


class Latency(_Part):
    ttft: Limit = timedelta(milliseconds=500)
    """Time to first token; a request beyond it is slow. Must be an edge of the servers' histograms."""
    tpot: Limit = timedelta(milliseconds=50)
    """Time per output token."""
    e2e: Limit = timedelta(seconds=20)
    """Whole request."""
    margin: Share = 0.03
    """Non-inferior: the canary's share of slow requests is shown to be at most this much higher."""
    ceiling: Share = 0.10
    """Share of slow requests allowed where there is nothing to compare with, as in the soak."""

    @property
    def limits_seconds(self) -> dict[str, float]:
        return {name: getattr(self, name).total_seconds() for name in ("ttft", "tpot", "e2e")}


class Gates(_Part):
    quality: Quality
    errors: Errors = Errors()
    latency: Latency = Latency()


class Alpha(_Part):
    rollback: Share = 0.01
    """Chance that a healthy canary is rolled back, over all gates and looks."""
    promote: Share = 0.05
    """Chance that a canary at the margin is promoted, for each required gate."""


class Deadlines(_Part):
    ready: Duration = timedelta(minutes=15)
    """From the Deployment's creation until all replicas are ready."""
    drain: Duration = timedelta(minutes=5)
    """For requests in flight, after a version lost its traffic and before its pods go."""
    no_data: Duration = timedelta(minutes=5)
    """How long the canary's series may be missing while stable's are there."""


class ReleasePolicy(_Part):
    """One model's policy."""

    model: Name
    source: Annotated[str, Field(pattern=r"^dir://.+")]
    """Where revisions come from: `dir://path`, one subdirectory a revision."""
    image: Image
    serving: Serving
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = (
        Step(weight=5),
        Step(weight=10),
        Step(weight=25),
        Step(weight=50),
    )
    gates: Gates
    alpha: Alpha = Alpha()
    tick: Duration = timedelta(seconds=30)
    """How often the evidence is looked at; looking oftener costs nothing in error rates."""
    max_hold: Duration = timedelta(hours=2)
    """The longest time at one step; without the evidence by then the release is rolled back."""
    soak: Duration = timedelta(minutes=30)
    """How long the old version is kept warm, with a tenth of the traffic, after promotion."""
    lease: Duration = timedelta(minutes=5)
    """If nobody renews the release's lease for so long, the guard restores last good."""
    deadlines: Deadlines = Deadlines()

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        for number, (before, after) in enumerate(itertools.pairwise(steps), start=2):
            if after.weight <= before.weight:
                raise ValueError(
                    f"step {number} has weight {after.weight}, but a ladder goes up: above {before.weight}"
                )
        return steps

    @field_validator("tick")
    @classmethod
    def _takes_time(cls, tick: timedelta) -> timedelta:
        if not tick:
            raise ValueError("must be more than 0s")
        return tick

    @field_validator("max_hold")
    @classmethod
    def _longer_than_every_hold(cls, max_hold: timedelta, known: ValidationInfo) -> timedelta:
        longest = max((step.hold for step in known.data.get("steps", ())), default=max_hold)
        if longest > max_hold:
            raise ValueError(f"must be at least the longest hold of a step ({longest})")
        return max_hold

    @field_validator("lease")
    @classmethod
    def _three_ticks(cls, lease: timedelta, known: ValidationInfo) -> timedelta:
        tick = known.data.get("tick", lease / 3)
        if lease < 3 * tick:
            raise ValueError(f"must be at least three ticks ({3 * tick}), else one slow tick loses it")
        return lease

    @property
    def ladder(self) -> tuple[int, ...]:
        return tuple(step.weight for step in self.steps)


def parse(text: str, where: str) -> ReleasePolicy:
    """The policy in `text`. Raises BadInput listing every mistake; `where` names the file in the message."""
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except ValueError as error:  # a date that cannot be, a number of thousands of digits
        raise BadInput(f"{where}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: a policy is a mapping of fields, starting with `model:`")
    try:
        return ReleasePolicy.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(text, where, detail) for detail in error.errors()]
        raise BadInput("\n".join(problems)) from error


def read(path: Path) -> ReleasePolicy:
    """The policy in a file. Raises BadInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    policy = parse(text, str(path))
    if policy.model != path.stem:
        raise BadInput(
            f"{path}:{_line(text, ['model'])}: model: {policy.model!r} stands in {path.name}, but a policy's file has "
            f"its model's name: rename the file to {policy.model}.yaml, or the model to {path.stem}"
        )
    return policy


def _problem(text: str, where: str, detail: Any) -> str:
    """One mistake as `file:line: field: what is wrong`."""
    location = [part for part in detail["loc"] if isinstance(part, str | int)]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = f"unknown field; known here: {', '.join(_known_fields(location[:-1]))}"
    elif detail["type"] == "missing":
        message = "is missing"
    elif "input" in detail and isinstance(detail["input"], str | int | float):
        message = f"{message} (found {detail['input']!r})"
    line = _line(text, location)
    return f"{where}:{line}: {field + ': ' if field else ''}{message}"


def _known_fields(location: list[str | int]) -> list[str]:
    kind: Any = ReleasePolicy
    for part in location:
        if isinstance(part, str):
            annotation = kind.model_fields[part].annotation
            kind = Step if part == "steps" else annotation
    return sorted(kind.model_fields)


def _line(text: str, location: list[str | int]) -> int:
    """The line of the innermost node of `location` that is in the file (1-based)."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = node.start_mark.line if node else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1
