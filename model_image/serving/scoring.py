"""Teacher-forced scoring: how likely a model finds each token of a given text.

The text is read in passes of a bounded number of tokens with a key-value cache of its own, on a thread of its own, one
text after the other. Before each pass the generation is asked to pause between two of its steps: the two never use the
model at the same time, requests under way lose nothing, and wait for no longer than one pass. What a text's cache may
take is kept within bounds by the admission, which reserves for it what it reserves for an answer. A model that sums up
what it has read in a state, instead of keeping keys and values, cannot go on from there with several tokens at once: it
reads all of a text in one pass.
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

from serving import memory
from serving.engine import Scores, TokenScore

PASS_TOKENS = 128
"""Of one pass: bounds both its logits, tokens × vocabulary, and how long generation waits."""


class Scorer:
    """Scores texts with a model that others use, too, unless `pause` keeps them from it. Lives on one event loop."""

    def __init__(self, model: Any, pass_tokens: int | None, pause: Callable[[], AbstractContextManager[Any]]) -> None:
        """`pass_tokens`: how many tokens of a text to read at once, at most; None: all."""
        self._model = model
        self._pass_tokens = None if pass_tokens is None else min(PASS_TOKENS, pass_tokens)
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
            deliver(Scores(scores.result(), None) if error is None else Scores((), _reason(error)))

    def _scores(self, text: list[int], top: int, cancelled: Event) -> tuple[TokenScore, ...]:
        # The last token predicts nothing that was asked for.
        read = len(text) - 1
        cache = {} if self._pass_tokens is None else {"past_key_values": DynamicCache(config=self._model.config)}
        scores: list[TokenScore] = []
        for start in range(0, read, self._pass_tokens or max(1, read)):
            if cancelled.is_set():
                break
            end = min(start + (self._pass_tokens or read), read)
            scores += self._pass(text[start:end], text[start + 1 : end + 1], top, cache)
        return tuple(scores)

    @torch.no_grad()
    def _pass(
        self, read: list[int], following: list[int], top: int, cache: dict[str, DynamicCache]
    ) -> list[TokenScore]:
        device = self._model.device
        with self._pause():
            logits = self._model(torch.tensor([read], device=device), **cache, use_cache=bool(cache)).logits[0]
        logprobs = logits.float().log_softmax(-1)
        given = logprobs.gather(-1, torch.tensor(following, device=device).unsqueeze(-1)).squeeze(-1)
        best = logprobs.topk(top)
        if not (given.isfinite().all() and best.values.isfinite().all()):
            raise ArithmeticError("the model gives a token no finite log-probability")
        rows = zip(given.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
        return [TokenScore(logprob, tuple(zip(ids, values, strict=True))) for logprob, ids, values in rows]


def _reason(error: BaseException) -> str:
    return memory.EXPLANATION if memory.ran_out(error) else str(error)
