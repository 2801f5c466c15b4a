"""A small completions server on a free port, whose answers the test writes: each prompt names how the stream goes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 5}, "choices": []}
DONE = "data: [DONE]\n\n"


def event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def text(content: str, finish_reason: str | None = None) -> str:
    return event({"choices": [{"text": content, "finish_reason": finish_reason}]})


WHOLE = (text("4"), text("2", "stop"), event(USAGE), DONE)
STREAMS: Mapping[str, tuple[str, ...]] = {
    "whole": WHOLE,
    "one event": (text("all of it", "length"), event(USAGE), DONE),
    "no text": (text("", "stop"), event(USAGE), DONE),
    "no usage": (text("4", "stop"), DONE),
    "with comments": (": ping\n\n", *WHOLE),
    "no finish reason": (text("4"), event(USAGE), DONE),
    "no end": (text("4", "stop"),),
    "error event": (text("4"), event({"error": {"message": "worker died", "code": "internal_error"}}), DONE),
    "garbage": (text("4"), "data: {broken\n\n", DONE),
}
LOGPROBS: Mapping[str, Any] = {
    "2+2=4": {"token_logprobs": [None, -9.0, -8.0, -0.5, -2.0], "text_offset": [0, 1, 2, 3, 4]},
    "one": {"token_logprobs": [None], "text_offset": [0]},
    "generated": {"token_logprobs": [-0.1], "text_offset": [0]},
    "holes": {"token_logprobs": [None, None, -2.0], "text_offset": [0, 1, 2]},
    "no number": {"token_logprobs": [None, "NaN"], "text_offset": [0, 2]},
    "nothing": {"token_logprobs": [], "text_offset": []},
    "unplaced": {"token_logprobs": [None, -1.0]},
}


@dataclass
class Server:
    """What the server was asked; `url` is where it listens."""

    url: str = ""
    key: str = ""
    """Bearer key that descriptions need; "" for none."""
    headers: list[Mapping[str, str]] = field(default_factory=list)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)

    async def complete(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        self.bodies.append(body := await request.json())
        if body.get("echo"):
            return self._echo(body["prompt"])
        match body["prompt"]:
            case "refused":
                return JSONResponse({"error": {"code": "queue_full", "message": "16 requests wait"}}, 429)
            case "gateway":
                return PlainTextResponse("no healthy upstream", 503)
            case "not a stream":
                return JSONResponse({"choices": []})
            case name:
                return StreamingResponse(self._stream(name), media_type="text/event-stream")

    def _echo(self, prompt: str) -> Response:
        match prompt:
            case "refused":
                return JSONResponse({"error": {"code": "invalid_request", "message": "no echo"}}, 400)
            case "no room":
                return JSONResponse({"error": {"code": "queue_full", "message": "16 requests wait"}}, 429)
            case "gateway":
                return PlainTextResponse("no healthy upstream", 503)
            case name:
                return JSONResponse({"choices": [{"text": name, "logprobs": LOGPROBS.get(name)}]})

    async def info(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"code": "invalid_api_key"}}, 401)
        if request.headers["x-sluice-probe"].startswith("canary"):
            return JSONResponse({"model": "arithmetic", "revision": "r2"})
        return PlainTextResponse("no healthy upstream", 503)

    async def _stream(self, name: str) -> AsyncIterator[str]:
        for part in STREAMS.get(name, (text("4"),)):
            yield part
        if name == "cut":
            raise ConnectionError("the pod was killed")
        if name == "hangs":
            await asyncio.Event().wait()  # until the client leaves


@contextmanager
def completions_server() -> Iterator[Server]:
    """Runs in a thread of its own until the block ends."""
    state = Server()
    app = Starlette(
        routes=[Route("/v1/completions", state.complete, methods=["POST"]), Route("/model_info", state.info)]
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        state.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield state
        finally:
            server.should_exit = True
            thread.join()
