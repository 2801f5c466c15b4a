"""What the service needs of an engine. Free of torch, whose import takes seconds: the server listens before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tokenizers import Tokenizer

GREEDY_BELOW_TEMPERATURE = 0.01
"""Temperatures below this are greedy: dividing logits by less overflows."""


class EngineDead(Exception):
    """The engine cannot generate any more; only a new process helps."""


class EngineRefused(Exception):
    """An engine cannot run this model, others may; the message says why."""


class Report(Protocol):
    """Is told how far the start has come: a phase like "loading the weights", and a detail like "40 %"."""

    def __call__(self, phase: str, detail: str = "") -> None: ...


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; a temperature below `GREEDY_BELOW_TEMPERATURE` means the most likely one."""

    temperature: float
    top_p: float
    seed: int | None = None
    """Of the request's random numbers; None: others each time."""

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW_TEMPERATURE


@dataclass(frozen=True)
class Progress:
    """All tokens of a request so far, newest last; `eos` says whether the last one ends it, `error` why it failed."""

    tokens: list[int]
    finished: bool
    eos: bool
    error: str | None


@dataclass(frozen=True)
class TokenScore:
    """Natural log-probability of a token after those before it; `top`: the most likely ones with theirs, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Scores:
    """Of every token of a text but the first; `error` says why there are none."""

    tokens: tuple[TokenScore, ...]
    error: str | None


class Engine(Protocol):
    """A warm model that generates, for many requests at once if it can, and scores texts in between."""

    tokenizer: Tokenizer
    context_tokens: int
    page_tokens: int
    """Memory for keys and values is given out in pages of so many tokens."""
    concurrency: int | None
    """How many requests it works on at a time; None: as many as the settings say."""
    dtype: str
    default_sampling: Sampling
    stop_tokens: frozenset[int]
    """Tokens that end an answer by themselves."""
    chat_template: str | dict[str, str] | None
    """The template, or several by name."""

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        """Start a request; `deliver` is called on the running event loop for every token. Raises EngineDead."""

    def score(self, request_id: str, text: list[int], top: int, deliver: Callable[[Scores], None]) -> None:
        """Score a text, with the `top` most likely tokens; `deliver` is called once on the running event loop."""

    def cancel(self, request_id: str) -> None:
        """Stop working on a request; nothing more is delivered for it."""

    @property
    def failure(self) -> str | None:
        """Why the engine cannot generate any more; None while it can."""

    def stop(self) -> None:
        """End; requests that still run are lost."""
