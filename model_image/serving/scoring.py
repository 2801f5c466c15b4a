"""Teacher-forced scoring: how likely a model finds each token of a given text.

The text is read in passes of a bounded number of tokens with a key-value cache of its own, on a thread of its own, one
text after the other. Before each pass the generation loop is asked to pause between two of its steps: the two never use
the model at the same time, requests under way lose nothing, and wait for no longer than one pass. What a text's cache
may take is kept within bounds by the admission, which reserves for it what it reserves for an answer.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from threading import Event
from typing import Any

import torch
from transformers import DynamicCache

from serving.engine import Scores, TokenScore

PASS_TOKENS = 128
"""Of one pass: bounds both its logits, tokens × vocabulary, and how long generation waits."""


class Scorer:
    """Scores texts with a model that others use, too, unless `pause` keeps them from it. Lives on one event loop."""

    def __init__(self, model: Any, pass_tokens: int, pause: Callable[[], AbstractContextManager[None]]) -> None:
        self._model = model
        self._pass_tokens = min(PASS_TOKENS, pass_tokens)
        self._pause = pause
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")
        self._under_way: dict[str, Event] = {}

    def submit(self, request_id: str, text: list[int], top: int, deliver: Callable[[Scores], None]) -> None:
        """Score a text; `deliver` is called once on the running event loop, unless it is cancelled."""
        cancelled = self._under_way[request_id] = Event()
        scores = asyncio.get_running_loop().run_in_executor(self._thread, self._scores, text, top, cancelled)
        scores.add_done_callback(partial(self._done, request_id, deliver))

    def cancel(self, request_id: str) -> bool:
        """Stop before the next pass, and deliver nothing; False if no such text is being scored."""
        cancelled = self._under_way.pop(request_id, None)
        if cancelled is not None:
            cancelled.set()
        return cancelled is not None

    def stop(self) -> None:
        """Cancel everything."""
        for request_id in tuple(self._under_way):
            self.cancel(request_id)
        self._thread.shutdown(wait=False)

    def _done(
        self, request_id: str, deliver: Callable[[Scores], None], scores: "asyncio.Future[tuple[TokenScore, ...]]"
    ) -> None:
        error = scores.exception()
        if self._under_way.pop(request_id, None) is not None:
            deliver(Scores(scores.result(), None) if error is None else Scores((), str(error)))

    def _scores(self, text: list[int], top: int, cancelled: Event) -> tuple[TokenScore, ...]:
        cache = DynamicCache(config=self._model.config)
        scores: list[TokenScore] = []
        # The last token predicts nothing that was asked for.
        for start in range(0, len(text) - 1, self._pass_tokens):
            if cancelled.is_set():
                break
            end = min(start + self._pass_tokens, len(text) - 1)
            scores += self._pass(text[start:end], text[start + 1 : end + 1], top, cache)
        return tuple(scores)

    @torch.no_grad()
    def _pass(self, read: list[int], following: list[int], top: int, cache: DynamicCache) -> list[TokenScore]:
        device = self._model.device
        with self._pause():
            logits = self._model(torch.tensor([read], device=device), past_key_values=cache, use_cache=True).logits[0]
        logprobs = logits.float().log_softmax(-1)
        given = logprobs.gather(-1, torch.tensor(following, device=device).unsqueeze(-1)).squeeze(-1)
        best = logprobs.topk(top)
        if not (given.isfinite().all() and best.values.isfinite().all()):
            raise ArithmeticError("the model gives a token no finite log-probability")
        rows = zip(given.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        return [TokenScore(logprob, tuple(zip(ids, values, strict=True))) for logprob, ids, values in rows]
