"""What the answers of all interfaces have in common: a whole answer's parts, and the events of a stream."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serving.logprobs import TokenLogprob

DONE = b"data: [DONE]\n\n"
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True)
class Answer:
    """A complete answer, before any interface gives it a form."""

    text: str
    finish_reason: str
    """stop or length."""
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Of each token, if they were asked for."""

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's `usage`."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class Wire(Protocol):
    """The form that one interface gives to the answer to one request."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The body of a complete answer."""


class StreamWire(Wire, Protocol):
    """The same for answers in pieces; each method gives server-sent events."""

    def piece(self, text: str) -> bytes:
        """An event with more text, of several tokens or none; b"" if it says nothing and is not the first."""

    def last(self, text: str, answer: Answer) -> bytes:
        """The rest of the text and the end of a complete answer."""


class Chunks:
    """Writes the events of one stream, around choices that are JSON already: what they share is written once."""

    def __init__(self, head: Mapping[str, Any], include_usage: bool | None) -> None:
        self._include_usage = include_usage
        self._begin = f'data: {_encode(dict(head))[:-1]},"choices":['
        self._end = ('],"usage":null' if include_usage else "]") + "}\n\n"

    def event(self, choice: str) -> bytes:
        """An event before the last."""
        return f"{self._begin}{choice}{self._end}".encode()

    def last(self, choice: str, answer: Answer) -> bytes:
        """The event that ends a complete answer, with usage where it is wanted, and `[DONE]`."""
        usage = f'],"usage":{_encode(answer.usage)}}}\n\n'
        if self._include_usage is None:
            return f"{self._begin}{choice}{usage}".encode() + DONE
        after = f"{self._begin}{usage}".encode() if self._include_usage else b""
        return self.event(choice) + after + DONE


def to_json(value: Any) -> str:
    """JSON without spaces, in ASCII."""
    return _encode(value)


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {_encode(dict(body))}\n\n".encode()
