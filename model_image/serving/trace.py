"""Where a request belongs in a distributed trace. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SCOPE_KEY = "serving.trace"
"""Where a request's ASGI scope has its TraceContext; without one it belongs to no trace."""


@dataclass(frozen=True)
class TraceContext:
    """What the headers of a request say: W3C's `traceparent`, B3's single header or B3's several."""

    trace_id: str = ""
    """32 hex digits; "" if the request belongs to no trace."""
    request_id: str = ""
    """`x-request-id`; "" if there is none."""
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    """What goes out with the response, so that the caller can find the trace."""
