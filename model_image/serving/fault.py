"""Drills: a server that misbehaves on purpose, so that a release pipeline can show that it notices.

SERVING_FAULT, refused unless SERVING_ALLOW_FAULTS=1:

    error:SHARE          this share of requests fails with 500
    error_after:N:SHARE  the same, but not the first N user requests and what comes before them
    wrong:SHARE          this share of answers has a wrong text: letters and digits rotated by one, all else as it was
    hang:SHARE           this share of requests never gets a token and runs into its deadline
    hang_after:N:SHARE   the same, but not the first N user requests and what comes before them
    slow:FACTOR          every token comes FACTOR times as late as it would
    slow_after:N:FACTOR  the same, once user request N + 1 has arrived
    late:SECONDS         every token comes SECONDS later, and so the first one does
    never_ready          /readyz stays 503
    crash_after:N        the process ends with exit code 1 when user request N + 1 arrives

Requests with the header x-sluice-probe are not user requests: they are struck like others, but not counted. Which
requests a share strikes is drawn from a generator of fixed seed: the same order of requests has the same fate.
"""

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from serving.text import TextAssembler

USAGE = (
    "use error:SHARE, error_after:N:SHARE, wrong:SHARE, hang:SHARE, hang_after:N:SHARE, slow:FACTOR, "
    "slow_after:N:FACTOR, late:SECONDS, never_ready or crash_after:N"
)


class FaultError(ValueError):
    """SERVING_FAULT is not one of the drills."""

    def __init__(self, text: str) -> None:
        super().__init__(f"SERVING_FAULT={text!r}: {USAGE}")


@dataclass(frozen=True)
class Fault:
    """What goes wrong; the default is nothing."""

    spared: int = 0
    """User requests that come before any is struck."""
    error_share: float = 0.0
    wrong_share: float = 0.0
    hang_share: float = 0.0
    slow_factor: float = 1.0
    late_seconds: float = 0.0
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
                return cls(spared=_count(text, count), error_share=_number(text, share, 0, 1))
            case ["wrong", share]:
                return cls(wrong_share=_number(text, share, 0, 1))
            case ["hang", share]:
                return cls(hang_share=_number(text, share, 0, 1))
            case ["hang_after", count, share]:
                return cls(spared=_count(text, count), hang_share=_number(text, share, 0, 1))
            case ["late", seconds]:
                return cls(late_seconds=_number(text, seconds, 0, 3600))
            case ["slow", factor]:
                return cls(slow_factor=_number(text, factor, 1, 1000))
            case ["slow_after", count, factor]:
                return cls(spared=_count(text, count), slow_factor=_number(text, factor, 1, 1000))
            case ["never_ready"]:
                return cls(never_ready=True)
            case ["crash_after", count]:
                return cls(crash_after=_count(text, count))
        raise FaultError(text)


class Act(Enum):
    """What happens to a request that arrives."""

    SERVE = "serve"
    FAIL = "fail"
    WRONG = "wrong"
    HANG = "hang"
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
        if before < self.fault.spared:
            return Act.SERVE
        draw = self._rng.random()
        shares = {Act.FAIL: self.fault.error_share, Act.WRONG: self.fault.wrong_share, Act.HANG: self.fault.hang_share}
        return next((act for act, share in shares.items() if draw < share), Act.SERVE)

    def delay_seconds(self, elapsed_seconds: float) -> float:
        """How much later than now a token is shown that took `elapsed_seconds`."""
        if 0 < self.fault.spared >= self._user_requests:
            return 0.0
        return (self.fault.slow_factor - 1) * elapsed_seconds + self.fault.late_seconds


class WrongText(TextAssembler):
    """Text that looks like the answer and is not: every letter and digit is the next one, 9 is 0 and z is a.

    Character by character, so that a stream is as wrong as the whole. Stop strings are looked for in the right text.
    """

    def push(self, ids: Sequence[int]) -> str:
        return super().push(ids).translate(_ROTATION)

    def flush(self) -> str:
        return super().flush().translate(_ROTATION)


_ROTATION = str.maketrans(
    {
        alphabet[position - 1]: character
        for alphabet in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
        for position, character in enumerate(alphabet)
    }
)


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
