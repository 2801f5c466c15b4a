"""One request over HTTP: its body in, its answer out, whole or as a stream of server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from serving.errors import ApiError, BodyTooLarge
from serving.generation import Ending
from serving.protocol.wire import StreamWire, Wire, event
from serving.run import Run
from serving.service import Service

MAX_BODY_BYTES = 4_000_000
CLIENT_GONE = 499


class EventStream(Response):
    """Server-sent events; the first must be there already when the response is made."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for body in self._events:
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def read_body(request: Request) -> bytes:
    """The whole body. Raises BodyTooLarge, but not before it has come: who still sends does not read an answer."""
    body, size, more = list[bytes](), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(message.get("body", b""))
        if size <= MAX_BODY_BYTES:
            body.append(message.get("body", b""))
        more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(MAX_BODY_BYTES)
    return b"".join(body)


async def whole(service: Service, request: Request, run: Run, wire: Wire) -> Response:
    """The response with all of an answer, when there is one; cancelled with its client."""
    watch = asyncio.create_task(_cancel_when_gone(request, run))
    await run.generation.ended()
    watch.cancel()
    if run.generation.ending is Ending.CANCELLED:
        return Response(status_code=CLIENT_GONE)
    if (problem := service.problem(run)) is not None:
        return error_response(problem)
    return JSONResponse(wire.whole(await run.answer()))


async def streamed(service: Service, request: Request, run: Run, wire: StreamWire) -> Response:
    """The response that streams an answer, from the first token on; cancelled with its client."""
    watch = asyncio.create_task(_cancel_when_gone(request, run))
    await run.generation.first_token()
    if (problem := service.problem(run)) is None:
        return EventStream(_events(service, run, wire, watch))
    watch.cancel()
    if run.generation.ending is Ending.CANCELLED:
        return Response(status_code=CLIENT_GONE)
    return error_response(problem)


def error_response(error: ApiError) -> Response:
    """In OpenAI's shape."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


async def _cancel_when_gone(request: Request, run: Run) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.generation.end(Ending.CANCELLED, "the client has gone")


async def _events(service: Service, run: Run, wire: StreamWire, watch: asyncio.Task[None]) -> AsyncIterator[bytes]:
    generation = run.generation
    async for text in generation.texts():
        if generation.ending is None:
            yield wire.piece(text)
        elif (problem := service.problem(run)) is not None:
            yield event(problem.body())
        else:
            yield wire.last(text, run.text_answer())
    watch.cancel()
