"""The service with a clock and an engine that a test drives by hand: no token comes and no time passes by itself."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from random import Random
from typing import Any

from arithmetic.checkpoint import encode, new_tokenizer
from serving.ask import Arrival
from serving.config import Settings
from serving.engine import Progress, Sampling, Scores
from serving.fault import Drill, Fault
from serving.metrics import Metrics
from serving.model_dir import FileDigests
from serving.outcome import Listener
from serving.protocol import CompletionRequest
from serving.run import Run
from serving.service import Service


class HandEngine:
    """Gives the tokens that it is told to."""

    tokenizer = new_tokenizer().backend_tokenizer
    context_tokens = 1024
    page_tokens = 16
    concurrency: int | None = None
    dtype = "float32"
    default_sampling = Sampling(temperature=0, top_p=1)
    stop_tokens = frozenset({2})
    chat_template: str | dict[str, str] | None = None
    failure: str | None = None

    def __init__(self) -> None:
        self.requests: dict[str, Callable[[Progress], None]] = {}
        self.scorings: dict[str, Callable[[Scores], None]] = {}
        self._given: dict[str, str] = {}

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        self.requests[request_id] = deliver
        self._given[request_id] = ""

    def score(self, request_id: str, text: list[int], top: int, deliver: Callable[[Scores], None]) -> None:
        self.scorings[request_id] = deliver

    def cancel(self, request_id: str) -> None:
        del (self.requests if request_id in self.requests else self.scorings)[request_id]

    def stop(self) -> None:
        self.requests.clear()

    def give(self, run: Run, text: str, *, finished: bool = False) -> None:
        """More tokens of a request, one a character."""
        self._given[run.id] += text
        deliver = self.requests.pop(run.id) if finished else self.requests[run.id]
        deliver(Progress(encode(self._given[run.id]), finished, eos=False, error=None))


class HandService(Service):
    """`now` is the time, in seconds; `hand` the engine."""

    def __init__(self, fault: str, rng: Random, *, listeners: Sequence[Listener] = (), **settings: object) -> None:
        self.now = 0.0
        self.hand = HandEngine()
        configured = Settings.model_validate({"request_deadline_seconds": 3600} | settings)
        super().__init__(
            configured,
            Metrics("r1", "v1", configured.time_buckets_seconds),
            Drill(Fault.parse(fault), rng),
            clock=lambda: self.now,
            listeners=listeners,
        )
        self.open(self.hand, FileDigests(weights="sha256:0", tokenizer="sha256:1"))

    def ask(self, prompt: str = "1+1=", **parameters: object) -> Run:
        request = CompletionRequest.model_validate({"prompt": prompt, "max_tokens": 8} | parameters)
        return self.submit(request.ask(), Arrival(self.now, "completions", stream=request.stream))

    def metrics_text(self) -> str:
        return self.exposition().decode()


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that is a coroutine."""

    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run
