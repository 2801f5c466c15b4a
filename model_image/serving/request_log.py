"""One line of JSON for each request, when it has ended or was refused.

Never with the text of a prompt or an answer, unless SERVING_LOG_PROMPTS says so.
"""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from serving.config import Settings
from serving.generation import Ending
from serving.outcome import Outcome

_LEVELS = {Ending.FAILED: "error", Ending.DEADLINE: "warning", "refused": "warning"}


def _now() -> datetime:
    return datetime.now(UTC)


class RequestLog:
    """An `outcome.Listener` that writes to a stream."""

    def __init__(self, settings: Settings, stream: TextIO, now: Callable[[], datetime] = _now) -> None:
        self._served = {"revision": settings.revision, "version": settings.version}
        self._log_prompts = settings.log_prompts
        self._stream = stream
        self._now = now

    def __call__(self, outcome: Outcome) -> None:
        time = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = {"time": time, "level": _LEVELS.get(outcome.reason, "info")} | self._served | fields(outcome)
        if self._log_prompts:
            record |= {"prompt": outcome.ask.prompt if outcome.ask is not None else None, "text": outcome.text}
        line = json.dumps(record, separators=(",", ":")) + "\n"
        # A log that cannot be written to any more must not cost anybody an answer.
        with contextlib.suppress(OSError):
            self._stream.write(line)
            self._stream.flush()


def fields(outcome: Outcome) -> dict[str, Any]:
    """What a line says of a request, without any text of it; None for what does not apply."""
    arrival, arrived = outcome.arrival, outcome.arrival.at

    def after(moment: float | None) -> float | None:
        return None if moment is None else round(moment - arrived, 3)

    return {
        "id": outcome.id or None,
        "interface": arrival.interface,
        "traffic": arrival.traffic,
        "stream": arrival.stream,
        "reason": str(outcome.reason),
        "code": outcome.code or None,
        "prompt_tokens": outcome.prompt_tokens,
        "output_tokens": outcome.output_tokens,
        "queue_seconds": after(outcome.handed_over),
        "ttft_seconds": after(outcome.first_token),
        "duration_seconds": after(outcome.ended),
        "trace_id": arrival.trace.trace_id or None,
        "request_id": arrival.trace.request_id or None,
    }
