"""Drills: a server that misbehaves on purpose, so that a release pipeline can show that it notices.

SERVING_FAULT, refused unless SERVING_ALLOW_FAULTS=1:

    error:SHARE          this share of requests fails with 500
    error_after:N:SHARE  the same, but not the first N user requests and what comes before them
    slow:FACTOR          every token comes FACTOR times as late as it would
    never_ready          /readyz stays 503
    crash_after:N        the process ends with exit code 1 when user request N + 1 arrives

Requests with the header x-sluice-probe are not user requests: they are failed and slowed like others, but not counted.
"""

import random
from dataclasses import dataclass
from enum import Enum

USAGE = "use error:SHARE, error_after:N:SHARE, slow:FACTOR, never_ready or crash_after:N"


class FaultError(ValueError):
    """SERVING_FAULT is not one of the drills."""

    def __init__(self, text: str) -> None:
        super().__init__(f"SERVING_FAULT={text!r}: {USAGE}")


@dataclass(frozen=True)
class Fault:
    """What goes wrong; the default is nothing."""

    error_share: float = 0.0
    error_after: int = 0
    slow_factor: float = 1.0
    never_ready: bool = False
    crash_after: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """The drill that SERVING_FAULT names; raises FaultError."""
        match text.split(":"):
            case [""]:
                return cls()
            case ["error", share]:
                return cls(error_share=_number(text, share, 0, 1))
            case ["error_after", count, share]:
                return cls(error_after=_count(text, count), error_share=_number(text, share, 0, 1))
            case ["slow", factor]:
                return cls(slow_factor=_number(text, factor, 1, 1000))
            case ["never_ready"]:
                return cls(never_ready=True)
            case ["crash_after", count]:
                return cls(crash_after=_count(text, count))
        raise FaultError(text)


class Act(Enum):
    """What happens to a request that arrives."""

    SERVE = "serve"
    FAIL = "fail"
    CRASH = "crash"


class Drill:
    """Applies a fault to the requests of one process."""

    def __init__(self, fault: Fault, rng: random.Random) -> None:
        self.fault = fault
        self._rng = rng
        self._user_requests = 0

    def arrival(self, *, user: bool) -> Act:
        """Decide on the request that arrives now, by the user requests that came before it."""
        before = self._user_requests
        self._user_requests += user
        if user and self.fault.crash_after is not None and before >= self.fault.crash_after:
            return Act.CRASH
        if before >= self.fault.error_after and self._rng.random() < self.fault.error_share:
            return Act.FAIL
        return Act.SERVE

    def delay_seconds(self, elapsed_seconds: float) -> float:
        """How much later than now a token is shown that took `elapsed_seconds`."""
        return (self.fault.slow_factor - 1) * elapsed_seconds


def _number(text: str, number: str, low: float, high: float) -> float:
    try:
        value = float(number)
    except ValueError:
        raise FaultError(text) from None
    if not low <= value <= high:
        raise FaultError(text)
    return value


def _count(text: str, number: str) -> int:
    if not number.isdecimal():
        raise FaultError(text)
    return int(number)
