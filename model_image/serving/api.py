"""HTTP: the routes, the error shapes, and what every response carries.

A response's head goes out together with the first token, never before: so a proxy's time to first byte is the time to
first token, and a request that fails before it gets a status of its own.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answering import CLIENT_GONE, error_response, read_body, streamed, whole
from serving.ask import Arrival
from serving.contract import api_digest
from serving.errors import ApiError, GenerationFailed
from serving.protocol.chat import ChatRequest, ChatWire
from serving.protocol.completions import CompletionRequest, CompletionWire
from serving.protocol.parameters import parse
from serving.protocol.predict import PredictRequest, PredictWire
from serving.service import Phase, Service
from serving.trace import SCOPE_KEY, TraceContext

PROBE_HEADER = "x-sluice-probe"
OWNER = "sluice"
"""`owned_by` of the model."""
_ARRIVED = "serving.arrived"
_SCHEMA = "#/components/schemas/{model}"


class Envelope:
    """ASGI middleware: notes the arrival, names revision and version in every response, closes when draining."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        settings = service.settings
        self._version = (
            (b"x-model-revision", settings.revision.encode("latin-1")),
            (b"x-model-version", settings.version.encode("latin-1")),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_ARRIVED] = self._service.clock()

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                draining = self._service.phase in (Phase.DRAINING, Phase.REFUSING)
                closing = ((b"connection", b"close"),) if draining else ()
                message["headers"] = [*message.get("headers", ()), *self._version, *closing]
            await send(message)

        await self._app(scope, receive, send_stamped)


def create_app(service: Service) -> ASGIApp:
    """The application."""
    app = FastAPI(title="serving", docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_probes(app, service)
    _add_models(app, service)
    _add_interfaces(app, service)

    @app.get("/model_info")
    async def model_info() -> Response:
        return JSONResponse(service.model_info(api_schema))

    document = app.openapi()
    document["components"]["schemas"] |= _schemas()
    api_schema = api_digest(document)
    return Envelope(app, service)


def _add_interfaces(app: FastAPI, service: Service) -> None:
    model = service.settings.model_id

    @app.post("/v1/completions", openapi_extra=_takes(CompletionRequest))
    async def completions(request: Request) -> Response:
        with _refusals_counted(service, request, "completions"):
            body = parse(CompletionRequest, await read_body(request))
            service.check_model(body.model)
            ask = body.ask()
            prompt = await service.encode(ask)
        run = service.submit(ask, _arrival(request, "completions", bool(body.stream)), prompt)
        wire = CompletionWire(run.id, model, int(time.time()), body.include_usage)
        return await (streamed if body.stream else whole)(service, request, run, wire)

    @app.post("/v1/chat/completions", openapi_extra=_takes(ChatRequest))
    async def chat(request: Request) -> Response:
        with _refusals_counted(service, request, "chat"):
            body = parse(ChatRequest, await read_body(request))
            service.check_model(body.model)
            ask = body.ask(service.chat_prompt)
            prompt = await service.encode(ask)
        run = service.submit(ask, _arrival(request, "chat", bool(body.stream)), prompt)
        wire = ChatWire(run.id, model, int(time.time()), ask.prompt, body.include_usage)
        return await (streamed if body.stream else whole)(service, request, run, wire)

    @app.post("/predict", openapi_extra=_takes(PredictRequest))
    async def predict(request: Request) -> Response:
        with _refusals_counted(service, request, "predict"):
            ask = parse(PredictRequest, await read_body(request)).ask()
            prompt = await service.encode(ask)
        run = service.submit(ask, _arrival(request, "predict"), prompt)
        return await whole(service, request, run, PredictWire(model))


@contextmanager
def _refusals_counted(service: Service, request: Request, interface: str) -> Iterator[None]:
    """What is refused before its prompt is read counts as refused, too."""
    try:
        yield
    except ApiError as error:
        raise service.refuse_unread(_arrival(request, interface), error) from None


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """Of a route that reads its body itself, for the OpenAPI document."""
    schema = {"$ref": _SCHEMA.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _schemas() -> dict[str, Any]:
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (kind, "validation") for kind in (ChatRequest, CompletionRequest, PredictRequest)
    ]
    schemas: dict[str, Any] = models_json_schema(kinds, ref_template=_SCHEMA)[1]["$defs"]
    return schemas


def _arrival(request: Request, interface: str, stream: bool = False) -> Arrival:
    traffic = "synthetic" if PROBE_HEADER in request.headers else "user"
    trace = request.scope.get(SCOPE_KEY, TraceContext())
    return Arrival(request.scope[_ARRIVED], interface, traffic, stream, trace)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        path, kind = request.url.path, "invalid_request_error"
        body = {"message": f"{request.method} {path}: {error.detail}", "type": kind, "param": None, "code": "no_route"}
        return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        # The log has the rest: it is raised once more.
        return error_response(GenerationFailed("The server failed at this request.", code="internal_error"))


def _add_models(app: FastAPI, service: Service) -> None:
    created = int(time.time())

    def model() -> dict[str, Any]:
        name = service.settings.model_id
        length = service.engine.context_tokens if service.engine is not None else None
        served = {"id": name, "object": "model", "created": created, "owned_by": OWNER}
        return served | {"root": name, "max_model_len": length}

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model()]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        service.check_model(name)
        return JSONResponse(model())


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        return _status(service.not_alive)

    @app.get("/readyz")
    @app.get("/health")
    async def readyz() -> Response:
        return _status(service.not_ready)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.exposition(), media_type=CONTENT_TYPE_LATEST)


def _status(problem: str | None) -> Response:
    body = {"status": "ok"} if problem is None else {"status": "unavailable", "reason": problem}
    return JSONResponse(body, status_code=200 if problem is None else 503)
