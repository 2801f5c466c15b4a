"""One model's policy: every field with its unit and a safe default."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from sluice.policy.durations import EDGES_KEY, TIME_EDGES_SECONDS, Duration, edges_seconds
from sluice.policy.gates import Gates, Part, Share


def _below_100(weight: int) -> int:
    if weight > 99:
        raise ValueError("a ladder ends at 99 or below, because promote is the last write")
    return weight


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("a serving setting is a text, a number, true or false")
    return value


Weight = Annotated[int, Field(ge=1), AfterValidator(_below_100)]
Scalar = Annotated[str | int | float | bool, BeforeValidator(_scalar)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")]


Quantity = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]


EDGES_SETTING = "time_buckets_seconds"


class Image(Part):
    repository: str
    """Where the serving image is pushed, without a tag: images are referred to by digest."""
    context: Path = Path("model_image")
    """The build context."""
    base: str = ""
    """Base image of the build; "" for the Dockerfile's own default."""
    weights: Literal["image", "cache"] = "image"
    """Where pods find the revision's files: in their image, or in a cache that they mount."""


class Serving(Part):
    namespace: Name
    host: str
    """The public host, as in the VirtualService."""
    replicas: Annotated[int, Field(ge=1)] = 2
    gpu: Annotated[int, Field(ge=0)] = 0
    memory: Quantity = "16Gi"
    """Kubernetes quantity, per pod."""
    cpu: Quantity = "4"
    """Kubernetes quantity, per pod."""
    settings: dict[str, Scalar] = Field(default_factory=dict)
    """Settings of the server (SERVING_<NAME>); a revision's own settings win."""
    route: str = "primary"
    """The name of the HTTP route in the VirtualService whose destinations the release owns."""

    @field_validator("settings")
    @classmethod
    def _edges_that_a_server_takes(cls, settings: dict[str, Scalar]) -> dict[str, Scalar]:
        if EDGES_SETTING in settings:
            edges_seconds(settings[EDGES_SETTING])
        return settings


class Step(Part):
    weight: Weight
    """Percent of live requests."""
    hold: Duration = timedelta(minutes=5)
    """The least time at this weight, counted from when the observed share agrees."""
    requests: Annotated[int, Field(ge=1)] = 50
    """The least number of the canary's requests at this weight."""


class Alpha(Part):
    rollback: Share = 0.01
    """Chance that a healthy canary is rolled back, over all gates and looks."""
    promote: Share = 0.05
    """Chance that a canary at the margin is promoted, for each required gate."""


class Deadlines(Part):
    ready: Duration = timedelta(minutes=15)
    """From the Deployment's creation until all replicas are ready."""
    drain: Duration = timedelta(minutes=5)
    """For requests in flight, after a version lost its traffic and before its pods go."""


class Patience(Part):
    """What happens when the data stay as they are for so long."""

    after: Duration = timedelta(minutes=5)
    then: Literal["hold", "roll_back"] = "hold"
    """`hold` waits on, up to max_hold, and never raises."""


class Data(Part):
    """Only fresh data are judged; what becomes of a release whose data are not fresh."""

    sparse: Patience = Patience()
    """The canary's series are there, but no request of it ended: `after` is the time without one."""
    missing: Patience = Patience(then="roll_back")
    """The canary has no series while stable has: it vanished, or nobody scrapes it."""
    contradictory: Patience = Patience()
    """Counts that cannot be, or that the gateway and the servers tell differently."""
    unreachable: Patience = Patience()
    """The metrics do not answer. That is not the canary's fault."""


class Drill(Part):
    """Deliberately bad versions that the gates must block, to prove that they can."""

    schedule: str | None = None
    """When to drill, as a cron expression; none: only when somebody asks."""
    max_age: Duration | None = None
    """A release is refused unless a drill has passed within this time; none: it is not asked."""
    faults: Annotated[tuple[Literal["wrong", "slow", "failing", "hanging"], ...], Field(min_length=1)] = (
        "wrong",
        "slow",
        "failing",
        "hanging",
    )


class ReleasePolicy(Part):
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
    data: Data = Data()
    drill: Drill = Drill()
    rate: Annotated[float, Field(gt=0)] | None = None
    """Users' requests per second, for the times that lint and plan reckon; none: as the last release measured it."""

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

    @classmethod
    def of(cls, raw: dict[str, Any]) -> ReleasePolicy:
        """A policy as somebody wrote it. Raises pydantic's ValidationError."""
        return cls.model_validate(raw, context={EDGES_KEY: _edges(raw)})

    @property
    def ladder(self) -> tuple[int, ...]:
        return tuple(step.weight for step in self.steps)


def _edges(raw: dict[str, Any]) -> tuple[float, ...] | None:
    """The edges of the servers' histograms; None if what is written about them is wrong, which is told by itself."""
    try:
        setting = raw["serving"]["settings"][EDGES_SETTING]
    except (KeyError, TypeError):
        return TIME_EDGES_SECONDS
    try:
        return edges_seconds(setting)
    except ValueError:
        return None
