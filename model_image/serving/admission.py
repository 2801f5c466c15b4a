"""Who may run: requests start in the order of arrival, as soon as a slot and enough pages of the KV cache are free.

Every running request has pages reserved for its prompt and all of its max_tokens. So the engine never runs out of cache
in the middle of an answer: there it would throw away finished work, or die if the request alone is larger than the
cache. The price is cache that answers shorter than max_tokens leave unused. Single-threaded; knows neither clock nor
event loop.
"""

from collections import deque
from typing import Protocol

from serving.errors import ContextTooLong, InsufficientKvCache, QueueFull


class Job(Protocol):
    """A request as admission sees it; `tokens` is prompt + max_tokens."""

    @property
    def tokens(self) -> int: ...

    def start(self) -> None: ...


class Admission:
    """Reserves slots and pages. Invariant: reserved <= cache pages, running <= max_running, waiting <= max_waiting."""

    def __init__(
        self, *, context_tokens: int, cache_tokens: int, page_tokens: int, max_running: int, max_waiting: int
    ) -> None:
        self._context_tokens = context_tokens
        self._page_tokens = page_tokens
        self._free_pages = self._cache_pages = cache_tokens // page_tokens
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._running: set[Job] = set()
        self._waiting: deque[Job] = deque()

    def most_tokens(self, prompt_tokens: int) -> int:
        """The most that an answer to such a prompt can have in context and cache; below 1 if it cannot have any."""
        return min(self._context_tokens, self._cache_pages * self._page_tokens) - prompt_tokens

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def check(self, prompt_tokens: int, max_tokens: int) -> None:
        """Raises ContextTooLong or InsufficientKvCache for what never fits, QueueFull for what may not wait."""
        tokens = prompt_tokens + max_tokens
        if tokens > self._context_tokens:
            raise ContextTooLong(prompt_tokens, max_tokens, self._context_tokens)
        if self._pages(tokens) > self._cache_pages:
            raise InsufficientKvCache(tokens, self._cache_pages * self._page_tokens)
        must_wait = bool(self._waiting) or not self._fits(tokens)
        if must_wait and len(self._waiting) >= self._max_waiting:
            raise QueueFull(len(self._waiting))

    def submit(self, job: Job) -> None:
        """Start a checked job now or when its turn comes."""
        self._waiting.append(job)
        self._start_waiting()

    def leave(self, job: Job) -> None:
        """The job has ended, or does not want to start any more. Idempotent."""
        if job in self._running:
            self._running.remove(job)
            self._free_pages += self._pages(job.tokens)
        elif job in self._waiting:
            self._waiting.remove(job)
        self._start_waiting()

    def _start_waiting(self) -> None:
        # Strictly first come, first served: a small request does not overtake, or a large one would never start.
        while self._waiting and self._fits(self._waiting[0].tokens):
            job = self._waiting.popleft()
            self._running.add(job)
            self._free_pages -= self._pages(job.tokens)
            job.start()

    def _fits(self, tokens: int) -> bool:
        return len(self._running) < self._max_running and self._pages(tokens) <= self._free_pages

    def _pages(self, tokens: int) -> int:
        return -(-tokens // self._page_tokens)
