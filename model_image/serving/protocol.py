"""The wire format: OpenAI's completions, as far as one model and one choice need it."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from serving.ask import Ask
from serving.errors import BadRequest

_TOGETHER = (
    "echo, logprobs (0 to 5) and max_tokens 0 are possible only together, and without stream: they ask for the "
    "log-probabilities of the prompt itself"
)


class StreamOptions(BaseModel):
    """Accepted for compatibility: the last event always carries `usage`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = True


class CompletionRequest(BaseModel):
    """Body of POST /v1/completions. What is not listed here, or not with this value, is refused and named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    model: str | None = None
    max_tokens: int = Field(16, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    """None takes the model's generation_config; below 0.01 is greedy."""
    top_p: float | None = Field(None, gt=0, le=1)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: Literal[1] = 1
    echo: bool = False
    """Answer with the prompt itself and its log-probabilities."""
    logprobs: int | None = Field(None, ge=0, le=5)
    """How many of the most likely tokens to name at each place."""

    @field_validator("stop")
    @classmethod
    def _stop_strings(cls, stop: str | list[str] | None) -> list[str]:
        strings = [stop] if isinstance(stop, str) else stop or []
        if len(strings) > 4 or not all(strings):
            raise ValueError("at most 4 stop strings, none of them empty")
        return strings

    def check(self) -> None:
        """Raises BadRequest for parameters of which each is possible, but not together."""
        if not self.echo and self.logprobs is None and self.max_tokens:
            return
        wrong = None
        if not self.echo:
            wrong = "max_tokens" if self.logprobs is None else "logprobs"
        elif self.logprobs is None or self.max_tokens:
            wrong = "echo"
        elif self.stream:
            wrong = "stream"
        if wrong is not None:
            raise BadRequest(f"{wrong}: {_TOGETHER}", code="invalid_value", parameter=wrong)

    def ask(self) -> Ask:
        """What it asks of the model. Raises BadRequest."""
        self.check()
        return Ask(
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            logprobs=self.logprobs,
            echo=self.echo,
        )


class Wire:
    """Builds the answers to one request."""

    def __init__(self, request_id: str, model_id: str, created: int) -> None:
        self._head = {"id": request_id, "object": "text_completion", "created": created, "model": model_id}

    def completion(
        self,
        text: str,
        finish_reason: str,
        prompt_tokens: int,
        completion_tokens: int,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The whole answer; `logprobs` as `logprobs.legacy_logprobs` makes it."""
        return self._head | {
            "choices": [_choice(text, finish_reason) | {"logprobs": logprobs}],
            "usage": _usage(prompt_tokens, completion_tokens),
        }

    def chunk(self, text: str) -> bytes:
        """An event with text; it may hold several tokens or none."""
        return event(self._head | {"choices": [_choice(text, None)]})

    def last_chunk(self, text: str, finish_reason: str, prompt_tokens: int, completion_tokens: int) -> bytes:
        """The event that ends a complete answer, with usage, and `[DONE]`."""
        return event(self.completion(text, finish_reason, prompt_tokens, completion_tokens)) + b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
