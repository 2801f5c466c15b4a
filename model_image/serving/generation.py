"""One request from admission to its end, as the event loop sees it: tokens in, text out, exactly one ending.

An answer is complete before its request has ended, if there is more to be done about it: what, `on_complete` decides.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import StrEnum

from serving.answer_events import CompleteAnswer
from serving.engine import Progress
from serving.text import TextAssembler


class Ending(StrEnum):
    """Why a request ended; the label `reason` of serving_requests_finished_total."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    FAILED = "failed"


COMPLETE = frozenset({Ending.STOP, Ending.LENGTH})
_CODES = {Ending.DEADLINE: "deadline_exceeded", Ending.FAILED: "generation_failed"}


class Generation:
    """`deliver` and `end` are called by the engine's side, the rest by the one coroutine that answers the client."""

    def __init__(
        self,
        assembler: TextAssembler,
        on_tokens: Callable[[], None],
        on_complete: Callable[[Ending], None],
        on_end: Callable[[Ending], None],
    ) -> None:
        self._assembler = assembler
        self._on_tokens = on_tokens
        self._on_complete = on_complete
        self._on_end = on_end
        self._text = ""
        self._shown: list[str] = []
        self._complete = False
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self.tokens: list[int] = []
        """All so far, with the one that ended the answer."""
        self.ending: Ending | None = None
        self.error: str | None = None

    def deliver(self, progress: Progress) -> None:
        """Take all tokens so far; ignored once the answer is complete or the request has ended."""
        if self._complete or self.ending is not None:
            return
        if progress.error is not None:
            self.end(Ending.FAILED, progress.error)
            return
        new = progress.tokens[self.completion_tokens :]
        self.tokens += new
        if new:
            self._on_tokens()
        self._show(self._assembler.push(new))
        if self._assembler.stopped:
            self._finish(Ending.STOP)
        elif progress.finished:
            self._show(self._assembler.flush())
            self._finish(Ending.STOP if progress.eos else Ending.LENGTH)
        self._news.set()

    def answer(self, prompt: str) -> CompleteAnswer:
        """All of an answer that is complete."""
        return CompleteAnswer(prompt, self.shown, self.tokens, self.ending is Ending.LENGTH)

    @property
    def shown(self) -> str:
        """The text so far."""
        return "".join(self._shown)

    @property
    def code(self) -> str:
        """Of the error that the ending means to the client; "" if it means none."""
        return _CODES.get(self.ending, "") if self.ending is not None else ""

    def _show(self, text: str) -> None:
        self._text += text
        self._shown.append(text)

    def _finish(self, ending: Ending) -> None:
        self._complete = True
        self._on_complete(ending)

    def end(self, ending: Ending, error: str | None = None) -> None:
        """The first ending counts."""
        if self.ending is None:
            self.ending, self.error = ending, error
            self._on_end(ending)
            self._news.set()
            self._ended.set()

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens)

    async def first_token(self) -> None:
        """Returns once there is a token, or none will come."""
        await self._news.wait()

    async def texts(self) -> AsyncIterator[str]:
        """Text as it comes, the first with the first token (it may be empty), until the request has ended."""
        while True:
            await self._news.wait()
            self._news.clear()
            # Asked before the text is given: more of it, and the end, may come while a slow reader takes this piece.
            ended = self.ending is not None
            text, self._text = self._text, ""
            yield text
            if ended:
                return

    async def ended(self) -> None:
        """Returns when the request has ended."""
        await self._ended.wait()
