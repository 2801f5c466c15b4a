"""Takes requests for one model: admits or refuses them, runs them to an ending, counts them."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import Any

from tokenizers import Encoding

from serving import chat_template
from serving.admission import Admission
from serving.ask import Arrival, Ask
from serving.config import Settings
from serving.contract import Contract
from serving.engine import Engine
from serving.errors import ApiError, BadRequest, DeadlineExceeded, GenerationFailed, Unavailable, UnknownModel
from serving.fault import Act, Drill
from serving.generation import Ending
from serving.metrics import UNCLASSIFIED, Metrics, size_class
from serving.model_dir import FileDigests
from serving.outcome import Listener, Outcome
from serving.run import Run, kind_of_run

_CRASHED = 1
_LONG_CHARACTERS = 8192
"""Of a prompt: longer ones take tens of milliseconds to encode, which every stream would wait for."""


class Phase(StrEnum):
    """The life of the server, in order."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """Not ready any more, but still accepting: load balancers have yet to notice."""
    REFUSING = "refusing"


class Service:
    """The server without HTTP. Lives on one event loop."""

    admission: Admission

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        drill: Drill,
        clock: Callable[[], float] = time.perf_counter,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._listeners = listeners
        self.settings = settings
        self.metrics = metrics
        self.drill = drill
        self.clock = clock
        self.phase = Phase.LOADING
        self.loading = ""
        """How far the start has come."""
        self.engine: Engine | None = None
        self._files: FileDigests | None = None
        self._special_tokens: Mapping[str, str] = {}
        self._open_runs: set[Run] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    def open(self, engine: Engine, files: FileDigests) -> None:
        """Take requests from now on, with an engine that is warm."""
        self._files = files
        self._special_tokens = chat_template.special_tokens(self.settings.model_dir)
        self.admission = Admission(
            context_tokens=engine.context_tokens,
            cache_tokens=self.settings.kv_cache_tokens,
            page_tokens=engine.page_tokens,
            max_running=engine.concurrency or self.settings.max_requests_per_batch,
            max_waiting=self.settings.max_queue,
        )
        self.engine = engine
        self.phase = Phase.READY

    @property
    def not_ready(self) -> str | None:
        """Why the server should not get requests; None if it should."""
        if self.phase is Phase.LOADING and self.loading:
            return f"{self.phase}: {self.loading}"
        if self.phase is not Phase.READY:
            return self.phase.value
        return "drill: never_ready" if self.drill.fault.never_ready else self.not_alive

    @property
    def not_alive(self) -> str | None:
        """Why the process should be replaced; None if it should not."""
        return self.engine.failure if self.engine is not None else None

    async def encode(self, ask: Ask) -> Encoding:
        """A prompt's tokens, a long one's found beside the event loop. Raises an ApiError while there is no engine."""
        tokenizer = self._open_engine().tokenizer
        if len(ask.prompt) <= _LONG_CHARACTERS:
            return tokenizer.encode(ask.prompt, add_special_tokens=ask.special_tokens)
        # Only the method for several texts lets other threads run meanwhile.
        encode = partial(tokenizer.encode_batch, add_special_tokens=ask.special_tokens)
        return (await asyncio.to_thread(encode, [ask.prompt]))[0]

    def submit(self, ask: Ask, arrival: Arrival, prompt: Encoding | None = None) -> Run:
        """Admit a request; `prompt` are its tokens, if `encode` has found them. Raises an ApiError if it is refused."""
        self._refuse_if_closed(arrival)
        act = self.drill.arrival(user=arrival.traffic == "user")
        if act is Act.CRASH:
            os._exit(_CRASHED)
        prompt_class, reason = UNCLASSIFIED, "refused"
        try:
            engine = self._open_engine()
            if prompt is None:
                prompt = engine.tokenizer.encode(ask.prompt, add_special_tokens=ask.special_tokens)
            _check_prompt(len(prompt), arrival)
            prompt_class = size_class(len(prompt), self.settings.prompt_classes)
            max_tokens = self._max_tokens(ask, len(prompt))
            self.admission.check(len(prompt), max_tokens)
            self._check_most(max_tokens)
            if act is Act.FAIL:
                reason = Ending.FAILED
                raise GenerationFailed("A drill failed this request.", code="injected_fault")
        except ApiError as error:
            self._refuse(arrival, error, prompt_class, reason, ask)
            raise
        self.metrics.started(arrival.traffic, prompt_class)
        run = kind_of_run(ask)(self, engine, ask, max_tokens, prompt, arrival, (arrival.traffic, prompt_class), act)
        run.begin()
        return run

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """What the model reads of a chat: for an Ask without special tokens. Raises an ApiError if it cannot."""
        return chat_template.render(self._open_engine().chat_template, messages, self._special_tokens)

    def refuse_unread(self, arrival: Arrival, error: ApiError) -> ApiError:
        """Count a request that is refused before its prompt is read; returns what to tell the client."""
        error = self._closed_to(arrival.traffic) or error
        self._refuse(arrival, error)
        return error

    def check_model(self, name: str | None) -> None:
        """Raises UnknownModel if a request names another model than the one that is served."""
        if name is not None and name != self.settings.model_id:
            raise UnknownModel(name, self.settings.model_id)

    def _closed_to(self, traffic: str) -> ApiError | None:
        """Why requests of this traffic are refused whatever they ask for; None if they are not."""
        if not self.settings.probes_only or traffic != "user":
            return None
        return Unavailable("This server answers probes only, not users.", code="probes_only")

    def opened(self, run: Run) -> None:
        self._open_runs.add(run)
        self.idle.clear()

    def closed(self, run: Run, outcome: Outcome) -> None:
        self._open_runs.discard(run)
        if not self._open_runs:
            self.idle.set()
        self._tell(outcome)

    def abandon(self, reason: str) -> None:
        """Fail every request that has not ended."""
        for run in tuple(self._open_runs):
            run.generation.end(Ending.FAILED, reason)

    def problem(self, run: Run) -> ApiError | None:
        """The error that a run ended with; None while it runs or if it is complete."""
        match run.generation.ending:
            case Ending.DEADLINE:
                return DeadlineExceeded(self.settings.request_deadline_seconds)
            case Ending.FAILED if self.not_alive is not None:
                return Unavailable(f"The engine died: {self.not_alive}", code="engine_dead")
            case Ending.FAILED | Ending.CANCELLED:
                return GenerationFailed(f"The generation failed: {run.generation.error}", code="generation_failed")
        return None

    def model_info(self, api_schema: str) -> dict[str, Any]:
        """What is served, and what its callers rely on; `api_schema` is the digest of the HTTP interface."""
        settings = self.settings
        engine, files = self.engine, self._files
        contract = Contract() if engine is None or files is None else Contract.of(engine, files, api_schema)
        served = {"model": settings.model_id, "revision": settings.revision, "version": settings.version}
        return served | asdict(contract)

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them."""
        if self.engine is None:
            return self.metrics.exposition(running=0, waiting=0, under_way=())
        under_way = [run.under_way() for run in self._open_runs]
        return self.metrics.exposition(self.admission.running, self.admission.waiting, under_way)

    def _open_engine(self) -> Engine:
        if self.engine is None:
            raise Unavailable("The model is being loaded.", code="loading")
        if self.phase is Phase.REFUSING:
            raise Unavailable("The server is shutting down.", code="draining")
        if (failure := self.engine.failure) is not None:
            raise Unavailable(f"The engine is dead: {failure}", code="engine_dead")
        return self.engine

    def _max_tokens(self, ask: Ask, prompt_tokens: int) -> int:
        if ask.max_tokens is not None:
            return ask.max_tokens
        return max(1, min(self.settings.max_new_tokens, self.admission.most_tokens(prompt_tokens)))

    def _check_most(self, max_tokens: int) -> None:
        if max_tokens > self.settings.max_new_tokens:
            raise BadRequest(
                f"max_tokens: {max_tokens} is more than this server gives, {self.settings.max_new_tokens}",
                code="invalid_value",
                parameter="max_tokens",
            )

    def _refuse_if_closed(self, arrival: Arrival) -> None:
        if (refusal := self._closed_to(arrival.traffic)) is not None:
            self._refuse(arrival, refusal)
            raise refusal

    def _refuse(
        self,
        arrival: Arrival,
        error: ApiError,
        prompt_class: str = UNCLASSIFIED,
        reason: str = "refused",
        ask: Ask | None = None,
    ) -> None:
        self.metrics.started(arrival.traffic, prompt_class)
        self.metrics.finished(arrival.traffic, prompt_class, reason)
        if reason == "refused":
            self.metrics.refused(arrival.traffic, error.code)
        self._tell(Outcome("", arrival, reason, self.clock(), code=error.code, ask=ask))

    def _tell(self, outcome: Outcome) -> None:
        for listener in self._listeners:
            listener(outcome)


def _check_prompt(tokens: int, arrival: Arrival) -> None:
    if not tokens:
        name = "messages" if arrival.interface == "chat" else "prompt"
        raise BadRequest(f"{name}: no text for the model to go on from", code="invalid_value", parameter=name)
