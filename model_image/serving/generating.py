"""The engine for models that the batching manager refuses: plain `generate`, one request after the other.

One thread runs the model. A stopping criterion, which `generate` asks after every token, hands the token to the event
loop and ends the request once it is cancelled.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Lock
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from serving import memory
from serving.config import Settings
from serving.engine import EngineDead, Progress, Sampling, Scores
from serving.model import Card, LoadedModel
from serving.sampler import Draws, OneSampler
from serving.scoring import Scorer

WARM_UP_TOKENS = 4


class GeneratingEngine(Card):
    """A loaded model that generates; ready after `warm_up`."""

    concurrency: int | None = 1
    page_tokens = 1

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        super().__init__(model, settings)
        self._network = model.network
        self._pad = next(iter(sorted(self.stop_tokens)), 0)
        self._model_in_use = Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generating")
        self._under_way: dict[str, Event] = {}
        self.failure: str | None = None
        # A state that sums up the text can only be read into from its beginning.
        pass_tokens = None if model.network._is_stateful else settings.max_batch_tokens
        self._scorer = Scorer(model.network, pass_tokens, lambda: self._model_in_use)

    def warm_up(self) -> None:
        """Generate a few tokens; raises EngineDead if none come. Blocking, and only before the first `submit`."""
        self._generate([0], WARM_UP_TOKENS, Sampling(0, 1), Event(), lambda progress: None)
        if self.failure is not None:
            raise EngineDead(f"the warm-up generation failed: {self.failure}")

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        """Start a request; `deliver` is called on the running event loop for every token. Raises EngineDead."""
        if self.failure is not None:
            raise EngineDead(self.failure)
        loop = asyncio.get_running_loop()
        cancelled = self._under_way[request_id] = Event()
        tell = partial(self._deliver, request_id, cancelled, deliver)
        self._thread.submit(
            self._generate, prompt, max_tokens, sampling, cancelled, partial(loop.call_soon_threadsafe, tell)
        )

    def score(self, request_id: str, text: list[int], top: int, deliver: Callable[[Scores], None]) -> None:
        """Score a text, with the `top` most likely tokens; `deliver` is called once on the running event loop."""
        self._scorer.submit(request_id, text, top, deliver)

    def cancel(self, request_id: str) -> None:
        """Stop working on a request; nothing more is delivered for it."""
        if (cancelled := self._under_way.pop(request_id, None)) is not None:
            cancelled.set()
        else:
            self._scorer.cancel(request_id)

    def stop(self) -> None:
        """Cancel everything."""
        for cancelled in self._under_way.values():
            cancelled.set()
        self._scorer.stop()
        self._thread.shutdown()

    def _deliver(
        self, request_id: str, cancelled: Event, deliver: Callable[[Progress], None], progress: Progress
    ) -> None:
        if cancelled.is_set():
            return
        if progress.finished:
            del self._under_way[request_id]
        deliver(progress)

    def _generate(
        self,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        cancelled: Event,
        tell: Callable[[Progress], Any],
    ) -> None:
        """The thread's work."""
        watch = _Watch(len(prompt), max_tokens, self.stop_tokens, cancelled, tell)
        try:
            if self.failure is not None:
                raise EngineDead(self.failure)
            with self._model_in_use:
                if cancelled.is_set():
                    return
                text = torch.tensor([prompt], device=self._network.device)
                self._network.generate(
                    text,
                    attention_mask=torch.ones_like(text),
                    generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                        do_sample=False, max_new_tokens=max_tokens, pad_token_id=self._pad
                    ),
                    logits_processor=[OneSampler(Draws(sampling))],
                    stopping_criteria=[watch],
                )
        except Exception as error:
            # What is not understood is fatal, as it is to the batching engine.
            reason = memory.EXPLANATION if memory.ran_out(error) else str(error)
            if not memory.ran_out(error):
                self.failure = self.failure or reason
            tell(Progress(watch.tokens, finished=True, eos=False, error=reason))


class _Watch(StoppingCriteria):
    """Sees every token of a single request as it comes, and ends the request."""

    def __init__(
        self,
        prompt_tokens: int,
        max_tokens: int,
        stop_tokens: frozenset[int],
        cancelled: Event,
        tell: Callable[[Progress], Any],
    ) -> None:
        self.tokens: list[int] = []
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self._stop_tokens = stop_tokens
        self._cancelled = cancelled
        self._tell = tell
        self._finished = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        # On a GPU generate looks at the answer one step later, and asks once more.
        if not self._finished and not self._cancelled.is_set():
            self._see(int(input_ids[0, -1]))
        done = self._finished or self._cancelled.is_set()
        return torch.tensor([done], device=input_ids.device)  # type: ignore[return-value]

    def _see(self, token: int) -> None:
        self.tokens.append(token)
        eos = token in self._stop_tokens
        self._finished = eos or len(self.tokens) == self._max_tokens
        self._tell(Progress(list(self.tokens), self._finished, eos, error=None))
