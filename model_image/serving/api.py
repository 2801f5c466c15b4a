"""HTTP: the routes, the error shapes, and what every response carries.

A response's head goes out together with the first token, never before: so a proxy's time to first byte is the time to
first token, and a request that fails before it gets a status of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.ask import Arrival
from serving.contract import api_digest
from serving.errors import ApiError, BadRequest
from serving.generation import Ending
from serving.protocol import CompletionRequest, Wire, event
from serving.run import Run
from serving.service import Phase, Service
from serving.trace import SCOPE_KEY, TraceContext

PROBE_HEADER = "x-sluice-probe"
_ARRIVED = "serving.arrived"
_CLIENT_GONE = 499


class Envelope:
    """ASGI middleware: notes the arrival, names revision and version in every response, closes when draining."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_ARRIVED] = self._service.clock()

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._stamp(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_stamped)

    def _stamp(self, headers: MutableHeaders) -> None:
        headers["x-model-revision"] = self._service.settings.revision
        headers["x-model-version"] = self._service.settings.version
        if self._service.phase in (Phase.DRAINING, Phase.REFUSING):
            headers["connection"] = "close"


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
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def create_app(service: Service) -> ASGIApp:
    """The application."""
    app = FastAPI(title="serving", docs_url=None, redoc_url=None)
    _add_errors(app, service)
    _add_probes(app, service)

    @app.get("/model_info")
    async def model_info() -> Response:
        return JSONResponse(service.model_info(api_schema))

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        arrival = _arrival(request, "completions", body.stream)
        try:
            service.check_model(body.model)
            ask = body.ask()
        except ApiError as error:
            raise service.refuse_unread(arrival, error) from None
        run = service.submit(ask, arrival)
        wire = Wire(f"cmpl-{run.id}", service.settings.model_id, int(time.time()))
        watch = asyncio.create_task(_cancel_when_gone(request, run))
        await run.generation.first_token()
        if body.stream and service.problem(run) is None:
            return EventStream(_events(service, run, wire, watch))
        text = await run.generation.text()
        watch.cancel()
        return await _completion(service, run, wire, text)

    api_schema = api_digest(app.openapi())
    return Envelope(app, service)


async def _cancel_when_gone(request: Request, run: Run) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.generation.end(Ending.CANCELLED, "the client has gone")


async def _events(service: Service, run: Run, wire: Wire, watch: asyncio.Task[None]) -> AsyncIterator[bytes]:
    generation, first = run.generation, True
    async for text in generation.texts():
        if generation.ending is None:
            if text or first:
                yield wire.chunk(text)
        elif (problem := service.problem(run)) is not None:
            yield event(problem.body())
        else:
            yield wire.last_chunk(text, generation.ending, run.prompt_tokens, generation.completion_tokens)
        first = False
    watch.cancel()


async def _completion(service: Service, run: Run, wire: Wire, text: str) -> Response:
    if run.generation.ending is Ending.CANCELLED:
        return Response(status_code=_CLIENT_GONE)
    if (problem := service.problem(run)) is not None:
        return _error(problem)
    return JSONResponse(await run.body(wire, text))


def _arrival(request: Request, interface: str, stream: bool = False) -> Arrival:
    traffic = "synthetic" if PROBE_HEADER in request.headers else "user"
    trace = request.scope.get(SCOPE_KEY, TraceContext())
    return Arrival(request.scope[_ARRIVED], interface, traffic, stream, trace)


def _error(error: ApiError) -> Response:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


def _add_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return _error(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        detail = error.errors()[0]
        # The location starts with "body"; without a field after it the body itself is not what it should be.
        path = ".".join(str(part) for part in detail["loc"][1:] if not isinstance(part, int))
        message = (
            "the body is not valid JSON"
            if detail["type"] == "json_invalid"
            else detail["msg"].removeprefix("Value error, ")
        )
        wrong = BadRequest(f"{path or 'body'}: {message}", code="invalid_value", parameter=path or None)
        return _error(service.refuse_unread(_arrival(request, request.url.path.rsplit("/", 1)[-1]), wrong))


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        return _status(service.not_alive)

    @app.get("/readyz")
    async def readyz() -> Response:
        return _status(service.not_ready)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.exposition(), media_type=CONTENT_TYPE_LATEST)


def _status(problem: str | None) -> Response:
    body = {"status": "ok"} if problem is None else {"status": "unavailable", "reason": problem}
    return JSONResponse(body, status_code=200 if problem is None else 503)
