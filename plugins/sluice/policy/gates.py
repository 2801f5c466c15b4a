"""What a policy says about the gates: what is asked, how strictly, and by which limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from sluice.policy.durations import Duration, Limit

Share = Annotated[float, Field(gt=0, lt=1)]

BehaviourEvent = Literal[
    "empty", "repeated", "truncated", "refusal", "language_switch", "invalid_json", "broken_think", "long"
]
BEHAVIOUR_EVENTS: tuple[BehaviourEvent, ...] = get_args(BehaviourEvent)
"""What can be odd about an answer, whether it is right or not; `sluice.evidence.behaviour` says when each is."""

ContractPart = Literal["tokenizer", "chat_template", "stop_tokens", "context_tokens", "sampling_defaults", "api_schema"]
CONTRACT_PARTS: tuple[ContractPart, ...] = get_args(ContractPart)
"""What a version promises its callers, as `/model_info` names it."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rubric(Part):
    """A judge model for prompts that no rule can score (`scorer: rubric`)."""

    url: str
    """Base of an OpenAI-compatible API, e.g. https://judge.example.com/v1; its key is read from SLUICE_JUDGE_KEY."""
    model: str
    """Name of the judge model. Pin its version: another judge is another scale."""
    instructions: str = "Which answer serves the person who asked better? Judge what is said, not how long it is."
    timeout: Duration = timedelta(seconds=60)
    """For one judgement."""


class Quality(Part):
    prompts: Path
    """The prompt set, JSON lines."""
    margin: Share = 0.05
    """How much worse the canary's mean score may be (0.05: 5 points)."""
    floor: Share = 0.6
    """Mean score that a model's first release must be shown to reach."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Probes under way at once."""
    rubric: Rubric | None = None
    """Needed if the prompt set has prompts with the scorer `rubric`; off otherwise."""


class Errors(Part):
    max_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Regression: the canary's failure rate is shown to be more than this times stable's."""
    margin: Share = 0.01
    """Non-inferior: the canary's failure rate is shown to be at most this much higher."""
    floor: Share = 0.95
    """Success rate below which a canary is rolled back at once, if stable is not below it as well."""
    min_excess: Share | None = None
    """Regression only if the canary's failure rate is also shown to be more than this much higher; e.g. 0.001."""
    in_flight: Limit = timedelta(seconds=60)
    """A request that is under way for longer counts as failed from then on. An edge of the servers' histograms."""


class Latency(Part):
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


class Behaviour(Part):
    events: tuple[BehaviourEvent, ...] = BEHAVIOUR_EVENTS
    """What is counted; a canary that shows any of them more often than stable is a regression."""
    max_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Regression: an event is shown to be more than this times as frequent as with stable."""
    long_tokens: Annotated[int, Field(ge=1)] = 1024
    """Answers of more tokens are `long`: they cost more. Of users' answers the servers count by SERVING_LONG_TOKENS."""


class Fidelity(Part):
    prompts: Annotated[int, Field(ge=0)] = 50
    """How many prompts of the set are compared token by token, at most; 0 for none."""
    limit: Annotated[float, Field(gt=0)] | None = None
    """Mean difference of log-probabilities, in nats per token, that blocks when exceeded; none: it is only reported."""


class Contract(Part):
    forbid: tuple[ContractPart, ...] = CONTRACT_PARTS
    """Parts that must not differ from stable's; a difference in another part is listed and nothing more."""


class Gates(Part):
    quality: Quality
    errors: Errors = Errors()
    latency: Latency = Latency()
    behaviour: Behaviour = Behaviour()
    fidelity: Fidelity = Fidelity()
    contract: Contract = Contract()

    @property
    def limits_seconds(self) -> dict[str, float]:
        """What the telemetry counts by: the latency limits, and the age from which a request counts as failed."""
        return self.latency.limits_seconds | {"in_flight": self.errors.in_flight.total_seconds()}
