"""Users of the model: an open loop of requests through the gateway, every answer checked.

An open loop sends on time whether or not answers come, as real users do: a server that stalls sees all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

ANSWER_SECONDS = 60.0
STREAMED_EVERY = 3


@dataclass(frozen=True)
class Failure:
    """A request that did not get a whole answer; which version it went to stands in the gateway's log."""

    request_id: str
    at: float
    """Epoch seconds of sending."""
    sentence: str


class Users:
    """Send requests from a thread until `stop`."""

    def __init__(self, gateway_url: str, host: str, model: str, prompts: Sequence[dict[str, Any]], rate: float) -> None:
        self.sent = 0
        self.answered = 0
        self.failures: list[Failure] = []
        self._url, self._host, self._model, self._rate = gateway_url, host, model, rate
        self._prompts = prompts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="users")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers under way."""
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        transport = httpx.AsyncHTTPTransport(limits=limits)
        async with (
            httpx.AsyncClient(transport=transport, base_url=self._url, timeout=ANSWER_SECONDS) as client,
            asyncio.TaskGroup() as group,
        ):
            rng = random.Random(0)
            due = time.monotonic()
            for number in itertools.count():
                due += rng.expovariate(self._rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    return
                group.create_task(self._ask(client, rng.choice(self._prompts), streamed=not number % STREAMED_EVERY))

    async def _ask(self, client: httpx.AsyncClient, prompt: dict[str, Any], *, streamed: bool) -> None:
        self.sent += 1
        request_id, at = str(uuid.uuid4()), time.time()
        body = {
            "model": self._model,
            "prompt": prompt["prompt"],
            "max_tokens": prompt["max_tokens"],
            "temperature": 0,
            "stream": streamed,
        }
        headers = {"Host": self._host, "x-request-id": request_id}
        try:
            answer = await client.post("/v1/completions", json=body, headers=headers)
            wrong = _wrong(answer, streamed)
        except httpx.HTTPError as error:
            wrong = repr(error)
        if wrong:
            self.failures.append(Failure(request_id, at, wrong))
        else:
            self.answered += 1


def _wrong(answer: httpx.Response, streamed: bool) -> str:
    """What is wrong with an answer; "" if it is whole."""
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]}"
    if streamed and not answer.text.rstrip().endswith("data: [DONE]"):
        return f"the stream broke: {answer.text[-200:]}"
    with contextlib.suppress(ValueError, KeyError, IndexError):
        last = answer.text.rstrip().removesuffix("data: [DONE]").rstrip().rpartition("data: ")[2]
        return "" if json.loads(last)["choices"][0]["finish_reason"] else "the answer has no end"
    return f"no completion: {answer.text[:200]}"
