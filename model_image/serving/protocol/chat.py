"""POST /v1/chat/completions: OpenAI's chat, with a reasoning model's thinking in `reasoning_content`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serving.ask import Ask
from serving.logprobs import chat_logprobs
from serving.protocol.parameters import Only, OpenAIRequest, refuse
from serving.protocol.wire import Answer, Chunks, to_json
from serving.think import Parts, ThinkSplitter, opens_think

Render = Callable[[Sequence[Mapping[str, str]]], str]
"""Messages to the prompt that the model reads."""


def _joined(content: object) -> object:
    """The text of parts like `{"type": "text", "text": "…"}`; anything else is left to be refused."""
    if not isinstance(content, list):
        return content
    texts = [part["text"] for part in content if _is_text(part)]
    if len(texts) < len(content) or not texts:
        raise ValueError('a text, or a list of parts like {"type": "text", "text": "…"}, which are the only ones taken')
    return "".join(texts)


def _is_text(part: object) -> bool:
    known = isinstance(part, dict) and part.keys() == {"type", "text"}
    return known and part["type"] == "text" and isinstance(part["text"], str)  # type: ignore[index]


class Message(BaseModel):
    """One turn. An assistant's may be given back as it was answered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined, json_schema_input_type=str | list[dict[str, str]])]
    reasoning_content: str | None = None
    name: Annotated[Any, Only(None)] = None
    refusal: Annotated[Any, Only(None)] = None
    annotations: Annotated[Any, Only(None, [])] = None
    audio: Annotated[Any, Only(None)] = None
    function_call: Annotated[Any, Only(None)] = None
    tool_calls: Annotated[Any, Only(None, [])] = None

    def for_template(self) -> dict[str, str]:
        """As templates know messages."""
        message = {"role": self.role, "content": self.content}
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        return message


class ChatRequest(OpenAIRequest):
    """Its body."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    """None: as many as the server allows and the context holds."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """The newer name of max_tokens."""
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: Annotated[Any, Only(None, {"type": "text"})] = None
    tools: Annotated[Any, Only(None, [])] = None
    tool_choice: Annotated[Any, Only(None, "none", "auto")] = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[Any, Only(None, [])] = None
    function_call: Annotated[Any, Only(None, "none", "auto")] = None
    modalities: Annotated[Any, Only(None, ["text"])] = None
    audio: Annotated[Any, Only(None)] = None
    prediction: Annotated[Any, Only(None)] = None
    reasoning_effort: Annotated[Any, Only(None)] = None
    verbosity: Annotated[Any, Only(None, "medium")] = None
    web_search_options: Annotated[Any, Only(None)] = None
    service_tier: Annotated[Any, Only(None, "auto", "default")] = None
    store: Annotated[Any, Only(None, False)] = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None

    def ask(self, render: Render) -> Ask:
        """What it asks of the model. Raises BadRequest for parameters that are not possible together."""
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise refuse("max_tokens", "not with another max_completion_tokens, which is the same under a newer name")
        if self.top_logprobs and not self.logprobs:
            raise refuse("top_logprobs", "only with logprobs true")
        if self.logprobs and self.stream:
            raise refuse("logprobs", "not possible with stream: they are found when the answer is complete")
        return Ask(
            prompt=render([message.for_template() for message in self.messages]),
            special_tokens=False,
            max_tokens=self.max_tokens or self.max_completion_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.sampling(),
        )


class ChatWire:
    """The form of the answer to one request; `prompt` is what the model read."""

    def __init__(
        self, request_id: str, model_id: str, created: int, prompt: str, include_usage: bool | None = None
    ) -> None:
        head: dict[str, Any] = {"id": f"chatcmpl-{request_id}", "object": "chat.completion", "created": created}
        self._head = head | {"model": model_id}
        self._chunks = Chunks(self._head | {"object": "chat.completion.chunk"}, include_usage)
        self._splitter = ThinkSplitter(opened=opens_think(prompt))
        self._begun = False

    def whole(self, answer: Answer) -> dict[str, Any]:
        parts = _together(self._splitter.push(answer.text), self._splitter.flush())
        message: dict[str, Any] = {"role": "assistant", "content": parts.content, "refusal": None}
        if self._splitter.thinks:
            message["reasoning_content"] = parts.reasoning
        logprobs = None if answer.logprobs is None else chat_logprobs(answer.logprobs)
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": answer.finish_reason}
        return self._head | {"choices": [choice], "usage": answer.usage}

    def piece(self, text: str) -> bytes:
        parts = self._splitter.push(text)
        if self._begun and not any(parts):
            return b""
        return self._chunks.event(self._choice(parts, "null"))

    def last(self, text: str, answer: Answer) -> bytes:
        parts = _together(self._splitter.push(text), self._splitter.flush())
        return self._chunks.last(self._choice(parts, to_json(answer.finish_reason)), answer)

    def _choice(self, parts: Parts, finish_reason: str) -> str:
        delta = [] if self._begun else ['"role":"assistant"']
        self._begun = True
        if parts.reasoning:
            delta.append(f'"reasoning_content":{to_json(parts.reasoning)}')
        if parts.content:
            delta.append(f'"content":{to_json(parts.content)}')
        return f'{{"index":0,"delta":{{{",".join(delta)}}},"logprobs":null,"finish_reason":{finish_reason}}}'


def _together(one: Parts, other: Parts) -> Parts:
    return Parts(one.reasoning + other.reasoning, one.content + other.content)
