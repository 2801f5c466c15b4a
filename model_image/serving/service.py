"""Takes requests for one model: admits or refuses them, runs them to an ending, counts them."""

import asyncio
import os
import time
import uuid
from enum import StrEnum

from serving.admission import Admission
from serving.config import Settings
from serving.engine import Engine, EngineDead, Progress, Sampling
from serving.errors import ApiError, DeadlineExceeded, GenerationFailed, Unavailable, UnknownModel
from serving.fault import Act, Drill
from serving.generation import COMPLETE, Ending, Generation
from serving.metrics import UNCLASSIFIED, Metrics, size_class
from serving.protocol import CompletionRequest
from serving.text import TextAssembler

_CRASHED = 1


class Phase(StrEnum):
    """The life of the server, in order."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """Not ready any more, but still accepting: load balancers have yet to notice."""
    REFUSING = "refusing"


class Run:
    """One admitted request: a job of the admission, a generation for the client, and the bookkeeping between."""

    def __init__(
        self, service: "Service", engine: Engine, request: CompletionRequest, prompt: list[int], labels: tuple[str, str]
    ) -> None:
        self.id = f"cmpl-{uuid.uuid4().hex}"
        self.prompt_tokens = len(prompt)
        self.tokens = len(prompt) + request.max_tokens
        self._service = service
        self._engine = engine
        self._prompt = prompt
        self._max_tokens = request.max_tokens
        defaults = engine.default_sampling
        self._sampling = Sampling(
            temperature=defaults.temperature if request.temperature is None else request.temperature,
            top_p=defaults.top_p if request.top_p is None else request.top_p,
        )
        self._labels = labels
        self._engine_knows = False
        self._first_token_seconds = 0.0
        self._loop = asyncio.get_running_loop()
        assembler = TextAssembler(engine.tokenizer, request.stop_strings)
        self.generation = Generation(assembler, self._on_first_token, self._on_end)

    def begin(self, arrived: float) -> None:
        """Start the clock and stand in line; `arrived` is a time of `time.perf_counter`."""
        self._arrived = arrived
        left = self._service.settings.request_deadline_seconds - self._elapsed_seconds()
        self._deadline = self._loop.call_later(left, self.generation.end, Ending.DEADLINE)
        self._service.opened(self)
        self._service.admission.submit(self)

    def start(self) -> None:
        """Called by the admission when it is this request's turn."""
        try:
            self._engine.submit(self.id, self._prompt, self._max_tokens, self._sampling, self._deliver)
            self._engine_knows = True
        except EngineDead as error:
            self.generation.end(Ending.FAILED, str(error))

    def _deliver(self, progress: Progress) -> None:
        if progress.finished:
            self._engine_knows = False
        delay = self._service.drill.delay_seconds(self._elapsed_seconds())
        if delay:
            self._loop.call_later(delay, self.generation.deliver, progress)
        else:
            self.generation.deliver(progress)

    def _elapsed_seconds(self) -> float:
        return time.perf_counter() - self._arrived

    def _on_first_token(self) -> None:
        self._first_token_seconds = self._elapsed_seconds()
        self._service.metrics.first_token(*self._labels, self._first_token_seconds)

    def _on_end(self, ending: Ending) -> None:
        self._deadline.cancel()
        if self._engine_knows:
            self._engine.cancel(self.id)
        self._count(ending)
        self._service.admission.leave(self)
        self._service.closed(self)

    def _count(self, ending: Ending) -> None:
        metrics, produced = self._service.metrics, self.generation.completion_tokens
        metrics.finished(*self._labels, ending)
        metrics.tokens(*self._labels, self.prompt_tokens, produced)
        if ending not in COMPLETE:
            return
        elapsed = self._elapsed_seconds()
        metrics.completed(*self._labels, elapsed)
        if produced >= 2:
            output_class = size_class(produced, self._service.settings.output_classes)
            metrics.per_output_token(
                *self._labels, output_class, (elapsed - self._first_token_seconds) / (produced - 1)
            )


class Service:
    """The server without HTTP. Lives on one event loop."""

    admission: Admission

    def __init__(self, settings: Settings, metrics: Metrics, drill: Drill) -> None:
        self.settings = settings
        self.metrics = metrics
        self.drill = drill
        self.phase = Phase.LOADING
        self.engine: Engine | None = None
        self._weights_digest: str | None = None
        self._open_runs: set[Run] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    def open(self, engine: Engine, weights_digest: str) -> None:
        """Take requests from now on, with an engine that is warm."""
        self._weights_digest = weights_digest
        self.admission = Admission(
            context_tokens=engine.context_tokens,
            cache_tokens=self.settings.kv_cache_tokens,
            page_tokens=engine.page_tokens,
            max_running=self.settings.max_requests_per_batch,
            max_waiting=self.settings.max_queue,
        )
        self.engine = engine
        self.phase = Phase.READY

    @property
    def not_ready(self) -> str | None:
        """Why the server should not get requests; None if it should."""
        if self.phase is not Phase.READY:
            return self.phase.value
        return "drill: never_ready" if self.drill.fault.never_ready else self.not_alive

    @property
    def not_alive(self) -> str | None:
        """Why the process should be replaced; None if it should not."""
        return self.engine.failure if self.engine is not None else None

    def submit(self, request: CompletionRequest, traffic: str, arrived: float) -> Run:
        """Admit a request; raises an ApiError and counts it if it is not."""
        prompt_class = UNCLASSIFIED
        reason = "refused"
        act = self.drill.arrival(user=traffic == "user")
        if act is Act.CRASH:
            os._exit(_CRASHED)
        try:
            engine = self._engine_for(request)
            prompt = engine.tokenizer.encode(request.prompt).ids
            prompt_class = size_class(len(prompt), self.settings.prompt_classes)
            self.admission.check(len(prompt), request.max_tokens)
            if act is Act.FAIL:
                reason = Ending.FAILED
                raise GenerationFailed("A drill failed this request.", code="injected_fault")
        except ApiError:
            self.metrics.started(traffic, prompt_class)
            self.metrics.finished(traffic, prompt_class, reason)
            raise
        self.metrics.started(traffic, prompt_class)
        run = Run(self, engine, request, prompt, (traffic, prompt_class))
        run.begin(arrived)
        return run

    def opened(self, run: Run) -> None:
        self._open_runs.add(run)
        self.idle.clear()

    def closed(self, run: Run) -> None:
        self._open_runs.discard(run)
        if not self._open_runs:
            self.idle.set()

    def abandon(self, reason: str) -> None:
        """Fail every request that has not ended."""
        for run in tuple(self._open_runs):
            run.generation.end(Ending.FAILED, reason)

    def refuse_malformed(self, traffic: str) -> None:
        """Count a request whose body could not be read."""
        self.metrics.started(traffic, UNCLASSIFIED)
        self.metrics.finished(traffic, UNCLASSIFIED, "refused")

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

    def model_info(self) -> dict[str, str | int | None]:
        """What is served; digest, context and dtype are None while the model loads."""
        engine = self.engine
        return {
            "model": self.settings.model_id,
            "revision": self.settings.revision,
            "version": self.settings.version,
            "weights_digest": self._weights_digest,
            "max_context_tokens": engine.context_tokens if engine else None,
            "dtype": engine.dtype if engine else None,
        }

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them."""
        if self.engine is None:
            return self.metrics.exposition(running=0, waiting=0)
        return self.metrics.exposition(self.admission.running, self.admission.waiting)

    def _engine_for(self, request: CompletionRequest) -> Engine:
        if self.engine is None:
            raise Unavailable("The model is being loaded.", code="loading")
        if self.phase is Phase.REFUSING:
            raise Unavailable("The server is shutting down.", code="draining")
        if (failure := self.engine.failure) is not None:
            raise Unavailable(f"The engine is dead: {failure}", code="engine_dead")
        if request.model not in (None, self.settings.model_id):
            raise UnknownModel(str(request.model), self.settings.model_id)
        return self.engine
