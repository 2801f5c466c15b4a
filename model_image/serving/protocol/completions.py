"""POST /v1/completions: OpenAI's legacy completions."""

from typing import Annotated, Any

from pydantic import Field

from serving.ask import Ask
from serving.logprobs import legacy_logprobs
from serving.protocol.parameters import Only, OpenAIRequest, refuse
from serving.protocol.wire import Answer, Chunks, to_json

DEFAULT_MAX_TOKENS = 16
_ECHO = (
    "echo is possible only with logprobs (0 to 5) and max_tokens 0, and without stream: it asks for the "
    "log-probabilities of the prompt itself"
)


class CompletionRequest(OpenAIRequest):
    """Its body."""

    prompt: str = Field(min_length=1)
    max_tokens: int | None = Field(DEFAULT_MAX_TOKENS, ge=0)
    echo: bool | None = False
    """Answer with the prompt itself and its log-probabilities."""
    logprobs: int | None = Field(None, ge=0, le=5)
    """How many of the most likely tokens to name at each place."""
    best_of: Annotated[Any, Only(None, 1)] = None
    suffix: Annotated[Any, Only(None, "")] = None

    def ask(self) -> Ask:
        """What it asks of the model. Raises BadRequest for parameters that are not possible together."""
        max_tokens = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        if (wrong := self._wrong(max_tokens)) is not None:
            raise refuse(*wrong)
        return Ask(
            prompt=self.prompt,
            max_tokens=max_tokens,
            logprobs=self.logprobs,
            echo=bool(self.echo),
            **self.sampling(),
        )

    def _wrong(self, max_tokens: int) -> tuple[str, str] | None:
        if self.echo:
            if self.logprobs is None or max_tokens:
                return "echo", _ECHO
            return ("stream", _ECHO) if self.stream else None
        if not max_tokens:
            return "max_tokens", f"at least 1, for {_ECHO}"
        if self.logprobs is not None and self.stream:
            return "logprobs", "not possible with stream: they are found when the answer is complete"
        return None


class CompletionWire:
    """The form of the answer to one request."""

    def __init__(self, request_id: str, model_id: str, created: int, include_usage: bool | None = None) -> None:
        self._head = {"id": f"cmpl-{request_id}", "object": "text_completion", "created": created, "model": model_id}
        self._chunks = Chunks(self._head, include_usage)
        self._begun = False

    def whole(self, answer: Answer) -> dict[str, Any]:
        logprobs = None if answer.logprobs is None else legacy_logprobs(answer.logprobs)
        choice = {"index": 0, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return self._head | {"choices": [choice], "usage": answer.usage}

    def piece(self, text: str) -> bytes:
        if not text and self._begun:
            return b""
        self._begun = True
        return self._chunks.event(_choice(text, "null"))

    def last(self, text: str, answer: Answer) -> bytes:
        return self._chunks.last(_choice(text, to_json(answer.finish_reason)), answer)


def _choice(text: str, finish_reason: str) -> str:
    return f'{{"index":0,"text":{to_json(text)},"logprobs":null,"finish_reason":{finish_reason}}}'
