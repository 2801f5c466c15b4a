"""The hand-driven service behind HTTP, in this process: its engine answers by itself, on the hand-driven clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random

import httpx
from hand_driven import HandEngine, HandService
from starlette.types import ASGIApp

from arithmetic.checkpoint import encode
from serving.engine import Progress, Sampling
from serving.outcome import Listener

ANSWER = "42"
PREFILL_SECONDS, DECODE_SECONDS = 0.25, 0.5
"""From the engine's getting a request to the first token, and from there to the second and last one."""


class AnsweringEngine(HandEngine):
    """Gives every request the answer, and lets time pass on the service's clock while it does."""

    service: HandService

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        super().submit(request_id, prompt, max_tokens, sampling, deliver)
        loop = asyncio.get_running_loop()
        loop.call_soon(self._after, PREFILL_SECONDS, request_id, ANSWER[:1])
        loop.call_soon(self._after, DECODE_SECONDS, request_id, ANSWER)

    def _after(self, seconds: float, request_id: str, text: str) -> None:
        self.service.now += seconds
        if request_id in self.requests:
            finished = text == ANSWER
            deliver = self.requests.pop(request_id) if finished else self.requests[request_id]
            deliver(Progress(encode(text), finished, eos=False, error=None))


def answering(fault: str = "", listeners: Sequence[Listener] = (), **settings: object) -> HandService:
    """A service whose engine answers."""
    service = HandService(fault, Random(0), listeners=listeners, **settings)
    service.engine = service.hand = engine = AnsweringEngine()
    engine.service = service
    return service


@contextlib.asynccontextmanager
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an application in this process."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as asking:
        yield asking


async def ask(app: ASGIApp, headers: dict[str, str] | None = None, **parameters: object) -> httpx.Response:
    """One request for a completion."""
    async with client(app) as asking:
        body = {"prompt": "1+1=", "max_tokens": 4} | parameters
        return await asking.post("/v1/completions", json=body, headers=headers)
