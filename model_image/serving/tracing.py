"""Trace headers in and out, without OpenTelemetry: while spans have nowhere to go to, it is not even imported."""

from typing import Protocol

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.outcome import INTERFACES
from serving.trace import SCOPE_KEY, TraceContext, trace_context


class Tracer(Protocol):
    """Makes the spans, see `spans.Spans`."""

    def begin(self, came: TraceContext) -> TraceContext:
        """Begin the span of a request that comes to an outcome; returns the context with it, if it is recorded."""


class TraceHeaders:
    """ASGI middleware, the outermost: leaves a request's TraceContext in its scope and answers with its headers."""

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = scope[SCOPE_KEY] = self._context(scope)

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(context.answer_headers)
            await send(message)

        await self._app(scope, receive, send_traced)

    def _context(self, scope: Scope) -> TraceContext:
        context = trace_context(scope["headers"])
        # Probes, readings of metrics and the page's files come to no outcome, which would end the span.
        if self._tracer is None or scope["method"] != "POST" or scope["path"] not in INTERFACES:
            return context
        return self._tracer.begin(context)
