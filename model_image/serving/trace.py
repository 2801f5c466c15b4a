"""Where a request belongs in a distributed trace, as its headers say it. Plain data and functions of it.

Two families of headers are understood, as W3C Trace Context (https://www.w3.org/TR/trace-context/) and B3
(https://github.com/openzipkin/b3-propagation) define them: `traceparent` with `tracestate`, and B3's single header or
its several. What does not keep to its format is as if it was not there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SCOPE_KEY = "serving.trace"
"""Where a request's ASGI scope has its TraceContext; without one it belongs to no trace."""

REQUEST_ID, TRACEPARENT, TRACESTATE, B3 = "x-request-id", "traceparent", "tracestate", "b3"
B3_TRACE, B3_SPAN, B3_PARENT, B3_SAMPLED = "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"
B3_FLAGS = "x-b3-flags"
_B3_SEVERAL = (B3_TRACE, B3_SPAN, B3_PARENT, B3_SAMPLED, B3_FLAGS)
_NAMES = {name.encode(): name for name in (REQUEST_ID, TRACEPARENT, TRACESTATE, B3, *_B3_SEVERAL)}

_PRINTABLE = re.compile(rb"[ -~]+")
_REQUEST_ID_FORMAT = re.compile(r"[!-~]{1,128}")
_TRACEPARENT_FORMAT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_B3_FORMAT = re.compile(r"((?:[0-9a-f]{16}){1,2})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?|([01d])")
_SAMPLED = 0x01


@dataclass(frozen=True)
class TraceContext:
    """What the headers of a request say, and the span of the request if one is recorded."""

    trace_id: str = ""
    """32 hex digits; "" if the request belongs to no trace."""
    request_id: str = ""
    """`x-request-id`; "" if there is none."""
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    """What goes out with the response, so that the caller can find the trace."""
    parent_id: str = ""
    """The caller's span, 16 hex digits; "" if the request begins its trace."""
    sampled: bool | None = None
    """Whether the trace is recorded; None if that is for the server to decide."""
    state: str = ""
    """`tracestate`."""
    span: "Span | None" = None


@dataclass(frozen=True)
class _Parent:
    trace_id: str = ""
    span_id: str = ""
    sampled: bool | None = None


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext:
    """What a request's headers say, their names in lower case. W3C's win over B3's, B3's single one over its several.

    All that are valid go out again with the response as they came.
    """
    given = _relevant(headers)
    if not given:
        return TraceContext()
    request_id = given.get(REQUEST_ID, "")
    if not _REQUEST_ID_FORMAT.fullmatch(request_id):
        request_id = ""
    w3c, single, several = _of_w3c(given), _of_b3(given.get(B3, "")), _of_b3(_as_single(given))
    parent = w3c or single or several or _Parent()
    valid = (request_id, [REQUEST_ID]), (w3c, [TRACEPARENT, TRACESTATE]), (single, [B3]), (several, _B3_SEVERAL)
    names = [name for came, these in valid if came for name in these if name in given]
    return TraceContext(
        trace_id=parent.trace_id,
        request_id=request_id,
        answer_headers={name: given[name] for name in names},
        parent_id=parent.span_id,
        sampled=parent.sampled,
        state=given.get(TRACESTATE, "") if w3c else "",
    )


def span_headers(came: TraceContext, trace_id: str, span_id: str) -> dict[str, str]:
    """The headers of a response with a recorded span of its own, in the formats that the request's came in.

    W3C's if it had none.
    """
    sent, own = came.answer_headers, {}
    if B3 in sent:
        own[B3] = "-".join([trace_id, span_id, "1", *filter(None, [came.parent_id])])
    if any(name in sent for name in _B3_SEVERAL):
        several = {B3_TRACE: trace_id, B3_SPAN: span_id, B3_PARENT: came.parent_id, B3_SAMPLED: "1"}
        own |= {name: value for name, value in several.items() if value}
    if TRACEPARENT in sent or not own:
        own[TRACEPARENT] = f"00-{trace_id}-{span_id}-{_SAMPLED:02x}"
    unchanged = {name: sent[name] for name in (REQUEST_ID, TRACESTATE) if name in sent}
    return own | unchanged


def _relevant(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """A header that comes twice is joined: `tracestate` may be, the others then do not keep to their format."""
    given: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if (name := _NAMES.get(raw_name)) is not None and _PRINTABLE.fullmatch(raw_value):
            value = raw_value.decode("latin-1")
            given[name] = f"{given[name]},{value}" if name in given else value
    return given


def _of_w3c(given: Mapping[str, str]) -> _Parent | None:
    match = _TRACEPARENT_FORMAT.fullmatch(given.get(TRACEPARENT, ""))
    if match is None:
        return None
    version, trace_id, span_id, flags, later = match.groups()
    # Only later versions than the first may have more parts.
    if not _are_ids(trace_id, span_id) or (version == "00" and later is not None):
        return None
    return _Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def _of_b3(value: str) -> _Parent | None:
    match = _B3_FORMAT.fullmatch(value)
    if match is None:
        return None
    trace_id, span_id, decision, decision_alone = match.groups("")
    if decision_alone:
        return _Parent(sampled=decision_alone != "0")
    if not _are_ids(trace_id, span_id):
        return None
    return _Parent(trace_id.zfill(32), span_id, decision != "0" if decision else None)


def _as_single(given: Mapping[str, str]) -> str:
    """B3's several headers, written as the single one would be."""
    decision = given.get(B3_SAMPLED, "").lower()
    decision = "d" if given.get(B3_FLAGS) == "1" else {"true": "1", "false": "0"}.get(decision, decision)
    return "-".join(filter(None, [given.get(B3_TRACE), given.get(B3_SPAN), decision]))


def _are_ids(*ids: str) -> bool:
    return all(some_id.strip("0") for some_id in ids)
