"""A request's spans, made by OpenTelemetry and sent away by OTLP over HTTP in a thread of their own.

One span is the server's, from the arrival of the request's head to its end; below it `queue` until the engine gets the
request, `prefill` until the first token, `decode` until the end. Attributes are named by OpenTelemetry's semantic
conventions for generative AI where those have a name. This module alone imports OpenTelemetry.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from serving.config import ConfigError, Settings
from serving.generation import COMPLETE, Ending
from serving.outcome import Outcome
from serving.trace import TraceContext, span_headers

EXPORT_SECONDS = 5
"""How long one batch of spans may take, tries again included; then it is lost."""
CLOSE_SECONDS = 3
QUIET_SECONDS = 3600
"""How long nothing more is said after it was said that spans are lost."""
_ON_THEIR_WAY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
_NANOSECONDS = 1_000_000_000
_ERRORS = (Ending.FAILED, Ending.DEADLINE)


class Spans:
    """Begins a request's span when it comes (a `tracing.Tracer`), ends it with its outcome (an `outcome.Listener`).

    Raises ConfigError if the endpoint is no URL. `warn` is called from another thread.
    """

    def __init__(self, settings: Settings, warn: Callable[[str], None]) -> None:
        endpoint = settings.otel_exporter_otlp_endpoint
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint!r}: not a URL like http://otel-collector:4318")
        _take_over_log(warn)
        self._model_id = settings.model_id
        resource = {
            "service.name": settings.model_id,
            "service.version": settings.version,
            "serving.revision": settings.revision,
        }
        # It sees to no exit by itself, because that could wait for longer than the server's grace period is.
        self._provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("serving")

    def begin(self, came: TraceContext, at_nanoseconds: int | None = None) -> TraceContext:
        """The context of a request with a span of its own that began now or then, if its trace is recorded."""
        if came.sampled is False:
            return came
        span = self._tracer.start_span("request", _parent(came), SpanKind.SERVER, start_time=at_nanoseconds)
        if not span.is_recording():
            return replace(came, sampled=False)
        own = span.get_span_context()
        trace_id = format_trace_id(own.trace_id)
        headers = span_headers(came, trace_id, format_span_id(own.span_id))
        return replace(came, trace_id=trace_id, answer_headers=headers, sampled=True, span=span)

    def __call__(self, outcome: Outcome) -> None:
        """End the request's span, with those below it."""
        trace, arrived = outcome.arrival.trace, outcome.arrival.at
        if trace.span is None:
            # It did not come through the middleware, like those of the page.
            took = outcome.ended - arrived
            trace = self.begin(trace, time.time_ns() - round(took * _NANOSECONDS))
        span = trace.span
        if not isinstance(span, ReadableSpan) or span.start_time is None:
            return
        began = span.start_time

        def wall(seconds: float) -> int:
            return began + round((seconds - arrived) * _NANOSECONDS)

        span.update_name(f"{_operation(outcome)} {self._model_id}")
        span.set_attributes(attributes(outcome, self._model_id))
        if outcome.reason in _ERRORS:
            span.set_status(Status(StatusCode.ERROR, outcome.code))
        for name, start, end in phases(outcome):
            child = self._tracer.start_span(name, set_span_in_context(span), start_time=wall(start))
            child.end(wall(end))
        span.end(wall(outcome.ended))

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="close spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def phases(outcome: Outcome) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end, by the service's clock, of what an admitted request went through."""
    if not outcome.id:
        return
    handed_over, first_token = outcome.handed_over, outcome.first_token
    yield "queue", outcome.arrival.at, outcome.ended if handed_over is None else handed_over
    if handed_over is not None:
        yield "prefill", handed_over, outcome.ended if first_token is None else first_token
    if first_token is not None:
        yield "decode", first_token, outcome.ended


def attributes(outcome: Outcome, model_id: str) -> dict[str, AttributeValue]:
    """What a request's span says of it; never a text of the request or the answer."""
    arrival, ask = outcome.arrival, outcome.ask
    told: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": _operation(outcome),
        "gen_ai.request.model": model_id,
        "gen_ai.request.stream": arrival.stream,
        "gen_ai.response.id": outcome.id or None,
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.output_tokens": outcome.output_tokens,
        "serving.interface": arrival.interface,
        "serving.traffic": arrival.traffic,
        "serving.reason": str(outcome.reason),
    }
    if ask is not None:
        told |= {
            "gen_ai.request.max_tokens": ask.max_tokens,
            "gen_ai.request.temperature": ask.temperature,
            "gen_ai.request.top_p": ask.top_p,
            "gen_ai.request.seed": ask.seed,
        }
    if outcome.reason in COMPLETE:
        told["gen_ai.response.finish_reasons"] = [str(outcome.reason)]
    else:
        told["error.type"] = outcome.code or str(outcome.reason)
    if arrival.trace.request_id:
        told["http.request.header.x-request-id"] = [arrival.trace.request_id]
    return {name: value for name, value in told.items() if value is not None}


def _operation(outcome: Outcome) -> str:
    return "chat" if outcome.arrival.interface in ("chat", "page") else "text_completion"


def _parent(came: TraceContext) -> Context:
    if not came.trace_id:
        return Context()
    caller = SpanContext(
        int(came.trace_id, 16),
        int(came.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([came.state]),
    )
    return set_span_in_context(NonRecordingSpan(caller), Context())


class _Seldom(logging.Handler):
    """Passes on the first warning about spans on their way, and then one an hour at most: each lost batch has several.

    What OpenTelemetry finds wrong with a client's headers is nobody's concern here, and the client's own words.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_ON_THEIR_WAY) and record.created >= self._quiet_until:
            self._quiet_until = record.created + QUIET_SECONDS
            self._warn(f"spans are being lost, requests are not; said once an hour: {record.getMessage()}")


def _take_over_log(warn: Callable[[str], None]) -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_Seldom(warn)]
    logger.propagate = False
