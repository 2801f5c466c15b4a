"""One admitted request: a job of the admission, a generation for the client, and the bookkeeping between.

A request for log-probabilities is a run like others, queued, timed and cancelled like them. One for those of its prompt
gives no answer, and so no answer's events; one for those of its answer has the finished answer scored before it ends.

Every run is timed whatever becomes of it, and told to the metrics exactly once: its first token when it comes, or with
its end if none came. While it is under way the metrics ask for its age.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from tokenizers import Encoding

from serving.admission import Admission
from serving.answer_events import events
from serving.ask import Arrival, Ask
from serving.config import Settings
from serving.engine import Engine, EngineDead, Progress, Sampling, Scores
from serving.fault import Act, Drill, WrongText
from serving.generation import COMPLETE, Ending, Generation
from serving.logprobs import answer_logprobs, prompt_logprobs
from serving.metrics import Metrics, UnderWay, size_class
from serving.outcome import Outcome
from serving.protocol.wire import Answer
from serving.text import TextAssembler


class Host(Protocol):
    """What a run needs of the service."""

    settings: Settings
    metrics: Metrics
    drill: Drill
    admission: Admission
    clock: Callable[[], float]

    def opened(self, run: "Run") -> None: ...

    def closed(self, run: "Run", outcome: Outcome) -> None: ...


class Run:
    """A request for an answer."""

    def __init__(
        self,
        host: Host,
        engine: Engine,
        ask: Ask,
        max_tokens: int,
        prompt: Encoding,
        arrival: Arrival,
        labels: tuple[str, str],
        act: Act,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.prompt_tokens = len(prompt)
        self.tokens = len(prompt) + max_tokens
        self._host = host
        self._engine = engine
        self._ask = ask
        self._max_tokens = max_tokens
        self._prompt = prompt
        self._arrival = arrival
        self._labels = labels
        self._act = act
        self._engine_knows = False
        self._handed_over: float | None = None
        self._first_token: float | None = None
        self._last_token = 0.0
        self._stalled = False
        self._loop = asyncio.get_running_loop()
        assembler = (WrongText if act is Act.WRONG else TextAssembler)(engine.tokenizer, ask.stop)
        self.generation = Generation(assembler, self._on_tokens, self._on_complete, self._on_end)

    def begin(self) -> None:
        """Start the clock and stand in line."""
        left = self._host.settings.request_deadline_seconds - self._elapsed_seconds()
        self._deadline = self._loop.call_later(left, self.generation.end, Ending.DEADLINE)
        self._host.metrics.admitted(*self._labels)
        self._host.opened(self)
        self._host.admission.submit(self)

    def start(self) -> None:
        """Called by the admission when it is this request's turn."""
        self._handed_over = self._host.clock()
        self._host.metrics.queued(*self._labels, self._handed_over - self._arrival.at)
        if self._act is Act.HANG:
            return
        try:
            self._hand_to_engine()
            self._engine_knows = True
        except EngineDead as error:
            self.generation.end(Ending.FAILED, str(error))

    def under_way(self) -> UnderWay:
        """The request as it is at this moment."""
        return UnderWay(*self._labels, self._elapsed_seconds(), self._first_token is not None)

    async def answer(self) -> Answer:
        """The whole answer of a request that is complete."""
        return self.text_answer()

    def text_answer(self) -> Answer:
        """The answer without log-probabilities."""
        generation = self.generation
        return Answer(generation.shown, str(generation.ending), self.prompt_tokens, generation.completion_tokens)

    def _hand_to_engine(self) -> None:
        ask, defaults = self._ask, self._engine.default_sampling
        sampling = Sampling(
            temperature=defaults.temperature if ask.temperature is None else ask.temperature,
            top_p=defaults.top_p if ask.top_p is None else ask.top_p,
            seed=ask.seed,
        )
        self._engine.submit(self.id, self._prompt.ids, self._max_tokens, sampling, self._deliver)

    def _deliver(self, progress: Progress) -> None:
        if progress.finished:
            self._engine_knows = False
        self._show(partial(self.generation.deliver, progress))

    def _show(self, news: Callable[[], None]) -> None:
        """Let the client's side have what the engine delivered, now or when a drill wants it."""
        delay = self._host.drill.delay_seconds(self._elapsed_seconds())
        if delay:
            self._loop.call_later(delay, news)
        else:
            news()

    def _elapsed_seconds(self) -> float:
        return self._host.clock() - self._arrival.at

    def _on_tokens(self) -> None:
        now = self._host.clock()
        if self._first_token is None:
            self._first_token = now
            self._host.metrics.first_token(*self._labels, now - self._arrival.at)
        elif now - self._last_token > self._host.settings.stall_seconds:
            self._stalled = True
        self._last_token = now

    def _on_complete(self, ending: Ending) -> None:
        self.generation.end(ending)

    def _on_end(self, ending: Ending) -> None:
        self._deadline.cancel()
        if self._engine_knows:
            self._engine.cancel(self.id)
        now = self._host.clock()
        self._count(ending, now - self._arrival.at)
        self._host.admission.leave(self)
        self._host.closed(self, self._outcome(ending, now))

    def _outcome(self, ending: Ending, now: float) -> Outcome:
        return Outcome(
            id=self.id,
            arrival=self._arrival,
            reason=ending,
            ended=now,
            handed_over=self._handed_over,
            first_token=self._first_token,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.generation.completion_tokens,
            code=self.generation.code,
            ask=self._ask,
            text=self.generation.shown,
        )

    def _count(self, ending: Ending, elapsed: float) -> None:
        metrics, produced = self._host.metrics, self.generation.completion_tokens
        metrics.finished(*self._labels, ending)
        metrics.tokens(*self._labels, self.prompt_tokens, produced)
        metrics.ended(*self._labels, elapsed)
        if self._handed_over is None:
            metrics.queued(*self._labels, elapsed)
        if self._first_token is None:
            metrics.first_token(*self._labels, elapsed)
        if ending in COMPLETE:
            self._count_answer(produced, elapsed)
        if self._arrival.stream and self._first_token is not None:
            self._count_breaks(ending)

    def _count_breaks(self, ending: Ending) -> None:
        if self._stalled or self._host.clock() - self._last_token > self._host.settings.stall_seconds:
            self._host.metrics.stream_broken(*self._labels, "stalled")
        if ending not in COMPLETE:
            self._host.metrics.stream_broken(*self._labels, "cut")

    def _count_answer(self, produced: int, elapsed: float) -> None:
        metrics, settings = self._host.metrics, self._host.settings
        metrics.answered(*self._labels, events(self.generation.answer(self._ask.prompt), settings.long_tokens))
        if self._first_token is not None and produced >= 2:
            output_class = size_class(produced, settings.output_classes)
            first = self._first_token - self._arrival.at
            metrics.per_output_token(*self._labels, output_class, (elapsed - first) / (produced - 1))


class _Scored(Run):
    """A request that has something scored."""

    _scores = Scores((), None)

    def _score(self, ids: list[int], ending: Ending) -> None:
        """End like this when the scores of these tokens have come."""
        self._engine.score(self.id, ids, self._ask.logprobs or 0, partial(self._deliver_scores, ending))
        self._engine_knows = True

    def _deliver_scores(self, ending: Ending, scores: Scores) -> None:
        self._engine_knows = False
        self._scores = scores
        self._show(partial(self.generation.end, ending if scores.error is None else Ending.FAILED, scores.error))


class ScoredAnswer(_Scored):
    """A request for an answer and the log-probabilities of its tokens, given the prompt and those before."""

    async def answer(self) -> Answer:
        generated, tokenizer = self.generation.tokens, self._engine.tokenizer
        scores = self._scores.tokens[-len(generated) :]
        # Naming every token of a long text takes long enough to make other coroutines late: a thread.
        return replace(
            self.text_answer(), logprobs=await asyncio.to_thread(answer_logprobs, tokenizer, generated, scores)
        )

    def _on_complete(self, ending: Ending) -> None:
        # A stop string ends the answer, but not what the engine does.
        if self._engine_knows:
            self._engine.cancel(self.id)
        self._score(self._prompt.ids + self.generation.tokens, ending)


class Scoring(_Scored):
    """A request for the log-probabilities of its prompt."""

    async def answer(self) -> Answer:
        """The prompt itself."""
        tokens, tokenizer = self._scores.tokens, self._engine.tokenizer
        logprobs = await asyncio.to_thread(prompt_logprobs, tokenizer, self._prompt, tokens)
        return Answer(self._ask.prompt, str(self.generation.ending), self.prompt_tokens, 0, logprobs)

    def _hand_to_engine(self) -> None:
        self._score(self._prompt.ids, Ending.LENGTH)

    def _count_answer(self, produced: int, elapsed: float) -> None:
        """It is none."""


def kind_of_run(ask: Ask) -> type[Run]:
    """The run that gives what is asked."""
    if ask.echo:
        return Scoring
    return Run if ask.logprobs is None else ScoredAnswer
