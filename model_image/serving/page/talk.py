"""The page's requests: asked of the service like any other, ended by it, by the person's stop, or with the tab."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from serving.access import InvalidApiKey, matches
from serving.ask import Arrival, Ask
from serving.errors import ApiError
from serving.generation import Ending
from serving.page.conversation import Turn, chat_messages
from serving.protocol.parameters import Stop, Temperature, TopP, parse
from serving.run import Run
from serving.service import Service
from serving.think import ThinkSplitter, opens_think

UPDATE_SECONDS = 0.1
"""Between two updates of a page: each costs milliseconds of the event loop that all streams share."""
_HOW = {Ending.LENGTH: ", cut at max tokens", Ending.CANCELLED: ", stopped"}


class Controls(BaseModel):
    """What a person has set. The page's own sliders keep to the limits, others may not."""

    model_config = ConfigDict(extra="forbid", strict=True)

    temperature: Temperature = None
    top_p: TopP = None
    max_tokens: int | None = Field(None, ge=1)
    stop: Stop = None


class Talk:
    """The requests of all open pages; a session is one open page."""

    def __init__(self, service: Service, key: str, update_seconds: float = UPDATE_SECONDS) -> None:
        self._service = service
        self._key = key
        self._update_seconds = update_seconds
        self._runs: dict[str, set[Run]] = {}

    async def answer(
        self, session: str, turns: Sequence[Turn], prompt: str, key: str, controls: Mapping[str, object]
    ) -> AsyncGenerator[Turn]:
        """The turn as it grows, from the prompt alone until it has ended. Closing the generator cancels the request.

        The controls are those of `Controls`; one that is None or missing is as the model and the server have it.
        """
        arrival = Arrival(self._service.clock(), "page", stream=True)
        try:
            ask = self._ask(arrival, turns, prompt, key, controls)
            run = self._service.submit(ask, arrival)
        except ApiError as error:
            yield Turn(prompt, ended=True, problem=_said(error))
            return
        self._runs.setdefault(session, set()).add(run)
        opened = opens_think(ask.prompt)
        try:
            yield Turn(prompt)
            async for _ in run.generation.texts():
                if run.generation.ending is None:
                    yield _grown(prompt, run, opened)
                    await asyncio.sleep(self._update_seconds)
            yield self._ended(_grown(prompt, run, opened), run, arrival)
        finally:
            run.generation.end(Ending.CANCELLED)
            self._forget(session, run)

    def stop(self, session: str) -> None:
        """The person wants no more of it, or has closed the page."""
        for run in tuple(self._runs.get(session, ())):
            run.generation.end(Ending.CANCELLED)

    def _ask(
        self, arrival: Arrival, turns: Sequence[Turn], prompt: str, key: str, controls: Mapping[str, object]
    ) -> Ask:
        try:
            if self._key and not matches(key, self._key):
                raise InvalidApiKey
            wanted = parse(Controls, json.dumps(controls).encode()).model_dump()
            chats = self._chats
            return Ask(
                prompt=self._service.chat_prompt(chat_messages(turns, prompt)) if chats else prompt,
                special_tokens=not chats,
                **wanted | {"stop": tuple(wanted["stop"] or ())},
            )
        except ApiError as error:
            raise self._service.refuse_unread(arrival, error) from None

    @property
    def _chats(self) -> bool:
        """A model without a template for chats completes each prompt by itself."""
        return self._service.engine is not None and self._service.engine.chat_template is not None

    def _ended(self, turn: Turn, run: Run, arrival: Arrival) -> Turn:
        seconds, tokens = self._service.clock() - arrival.at, run.generation.completion_tokens
        ending = run.generation.ending or Ending.CANCELLED
        note = f"{tokens} token{'' if tokens == 1 else 's'} in {seconds:.1f} s{_HOW.get(ending, '')}"
        problem = None if ending is Ending.CANCELLED else self._service.problem(run)
        return replace(turn, ended=True, note=note, problem=_said(problem) if problem is not None else "")

    def _forget(self, session: str, run: Run) -> None:
        runs = self._runs[session]
        runs.discard(run)
        if not runs:
            del self._runs[session]


def _grown(prompt: str, run: Run, opened: bool) -> Turn:
    # From the whole text each time: what came since the last update may have come together with the end.
    splitter = ThinkSplitter(opened=opened)
    thoughts, answer = splitter.push(run.generation.shown)
    if run.generation.ending is not None:
        rest = splitter.flush()
        thoughts, answer = thoughts + rest.reasoning, answer + rest.content
    return Turn(prompt, thoughts, answer)


def _said(error: ApiError) -> str:
    """As a person reads it."""
    if isinstance(error, InvalidApiKey):
        return "The API key is missing or wrong. Enter it beside the conversation."
    return str(error)
