"""Evidence as the gates take it: counts per version and window, and scores per prompt.

Two counts must not be confused. Gates of bad events take *finished* requests (a request is bad or good once it has
ended); the share gate takes *started* requests, since slow answers finish late. Both are keyed by version by the
caller: `canary` is the version under release before and after promotion, `stable` the one it is compared with (in the
soak, the holdback).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class InvalidEvidence(ValueError):
    """Counts or scores that cannot be (more bad requests than requests, say): the source is contradictory."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Finished requests of one version in one window, and how many of them were bad."""

    requests: int
    bad: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.requests:
            raise InvalidEvidence(
                f"arm: {self.bad} bad of {self.requests} finished requests cannot be; "
                "count both in the same window, at the same place"
            )

    def __add__(self, other: Arm) -> Arm:
        return Arm(self.requests + other.requests, self.bad + other.bad)


NO_REQUESTS = Arm(0, 0)


@dataclass(frozen=True, slots=True)
class Arms:
    """The two versions in one window. `stable=None`: nothing to compare with, so the policy's ceiling decides."""

    canary: Arm
    stable: Arm | None

    @property
    def complete(self) -> bool:
        """Every version that takes part has finished a request, so the window says something."""
        return self.canary.requests > 0 and (self.stable is None or self.stable.requests > 0)

    def joined(self, earlier: Arms | None) -> Arms:
        """Return this window together with an earlier one of the same kind; one of the other kind is let go."""
        if earlier is None or (earlier.stable is None) != (self.stable is None):
            return self
        stable = None if self.stable is None or earlier.stable is None else earlier.stable + self.stable
        return Arms(earlier.canary + self.canary, stable)


@dataclass(frozen=True, slots=True)
class Window:
    """What finished between two looks, at one step. `step` is the ladder's index; the soak's is the ladder's length.

    `canary` and `stable` count attempts at the destination, which retries cannot hide: they are asked for regression.
    `users` counts what users got, which non-inferiority is about; None: the same counts.
    """

    step: int
    canary: Arm
    stable: Arm | None
    users: Arms | None = None

    @property
    def attempts(self) -> Arms:
        return Arms(self.canary, self.stable)


@dataclass(frozen=True, slots=True)
class LatencyWindow:
    """The same for latency: metric (`ttft`, `tpot`, `e2e`) → stratum → arms; bad means over the metric's limit."""

    step: int
    metrics: Mapping[str, Mapping[str, Arms]]


@dataclass(frozen=True, slots=True)
class StartedWindow:
    """Requests of the route that *started* in one window, by version."""

    canary: int
    stable: int

    def __post_init__(self) -> None:
        if self.canary < 0 or self.stable < 0:
            raise InvalidEvidence(
                f"started requests: {self.canary} and {self.stable} cannot be negative; "
                "a counter was reset, take the difference from zero"
            )


@dataclass(frozen=True, slots=True)
class Answers:
    """Completed answers of one version in one window, and how many of them showed each event (absent: none did)."""

    completed: int
    events: Mapping[str, int]

    def __post_init__(self) -> None:
        for name, count in self.events.items():
            if not 0 <= count <= self.completed:
                raise InvalidEvidence(
                    f"event {name!r}: {count} of {self.completed} completed answers cannot be; "
                    "count an answer once, when it completes, at the same place"
                )


@dataclass(frozen=True, slots=True)
class BehaviourWindow:
    """What answers showed between two looks, or one pair of the examination: an answer of each version.

    `stable=None`: nothing to compare with, so nothing is asked.
    """

    step: int
    canary: Answers
    stable: Answers | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt's scores in [0, 1]. One pair per prompt: repeated samples of a prompt are averaged before.

    `stable_score=None`: there is no stable version, so the policy's floor decides.
    """

    prompt_id: str
    category: str
    canary_score: float
    stable_score: float | None

    def __post_init__(self) -> None:
        for score in (self.canary_score, self.stable_score):
            if score is not None and not 0.0 <= score <= 1.0:
                raise InvalidEvidence(f"prompt {self.prompt_id}: score {score} is outside 0…1; check the scorer")
