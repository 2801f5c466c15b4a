"""One streamed completion as it comes in: events in, an Answer with its times out. No network.

Tells apart what the events say (text, finish_reason, usage, error) and when they came; the definitions of the times are
in `sluice.evidence.endpoint`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sluice.ports import Answer

DONE = "[DONE]"


class StreamBroken(Exception):
    """The stream says by itself that it failed, or says something that is no event of the API."""


class Stream:
    """Collects one answer. Its clock starts when it is made, and again when the request is really sent."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sent = monotonic()
        self._first_text: float | None = None
        self._text: list[str] = []
        self._finish_reason = ""
        self._usage: dict[str, Any] = {}
        self._done = False
        self.events = 0

    async def trace(self, event: str, _: Any) -> None:
        """httpcore's trace hook: the connection stands, the request's head goes out now."""
        if event.endswith(".send_request_headers.started"):
            self._sent = self._monotonic()

    def take(self, data: str) -> None:
        """One event. Raises StreamBroken for an error event or one that cannot be read."""
        self.events += 1
        if data.strip() == DONE:
            self._done = True
            return
        try:
            event = json.loads(data)
            if "error" in event:
                raise StreamBroken(f"error event: {_message(event['error'])}")
            self._usage = event.get("usage") or self._usage
            for choice in event.get("choices", []):
                self._choose(choice)
        except (ValueError, TypeError, AttributeError) as error:
            raise StreamBroken(f"{data[:200]!r} is no event of the completions API") from error

    def missing(self) -> str:
        """What a stream that ended lacks to be a complete answer; "" if nothing."""
        if not self._finish_reason:
            return f"the stream ended after {self.events} events without a finish_reason"
        return "" if self._done else f"the stream ended after {self.events} events without {DONE}"

    def answer(self, error: str) -> Answer:
        """The answer as of now, which is taken for the end of the stream."""
        e2e = self._monotonic() - self._sent
        ttft = e2e if self._first_text is None else self._first_text - self._sent
        tokens = _count(self._usage, "completion_tokens")
        return Answer(
            text=_whole("".join(self._text)),
            finish_reason=self._finish_reason,
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            completion_tokens=tokens,
            ttft_seconds=ttft,
            tpot_seconds=(e2e - ttft) / (tokens - 1) if tokens >= 2 else None,
            e2e_seconds=e2e,
            error=error,
        )

    def _choose(self, choice: dict[str, Any]) -> None:
        text = choice.get("text") or ""
        if text and self._first_text is None:
            self._first_text = self._monotonic()
        self._text.append(text)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason


def _whole(text: str) -> str:
    """The text without half characters: events may part a surrogate pair, which is joined again, or lose a half."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _message(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
