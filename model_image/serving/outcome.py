"""What came of a request, told once, when it has ended or was refused. Plain data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.ask import Arrival, Ask

INTERFACES: Mapping[str, str] = {
    "/v1/completions": "completions",
    "/v1/chat/completions": "chat",
    "/predict": "predict",
}
"""Paths, each with its `Arrival.interface`, where every POST comes to an outcome."""


@dataclass(frozen=True)
class Outcome:
    """Times in seconds of the service's clock (`time.perf_counter`)."""

    id: str
    arrival: Arrival
    reason: str
    """stop, length, cancelled, deadline, failed or refused."""
    ended: float
    handed_over: float | None = None
    """When the engine got it; None if it never did."""
    first_token: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    code: str = ""
    """Of the error that the client was told; "" for a complete answer."""
    ask: Ask | None = None
    """None if the body was not understood."""
    text: str = ""
    """The answer, as far as it came."""


Listener = Callable[[Outcome], None]
"""Called on the event loop; must neither block nor raise."""
