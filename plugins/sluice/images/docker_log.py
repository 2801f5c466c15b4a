"""What the engine says while it builds and pushes, made short enough for a task's log.

Events are the engine's JSON objects. Each log passes lines on to `progress`: a step's first line at once, what its
programs print at most every `INTERVAL_SECONDS`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

INTERVAL_SECONDS = 5.0
LINE_LENGTH = 160
KEPT_LINES = 20
"""Of a failed step's output, for the error."""
WORK = re.compile(r"Step \S+ : (FROM|RUN|COPY|ADD)\b")
"""Steps that take time; the others only write down what the image says of itself."""
NOISE = (
    "--->",
    "Removing intermediate container",
    "Successfully built",
    "Successfully tagged",
    "[Warning] One or more build-args",
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""The engine paints what steps print to standard error."""
ALREADY_THERE = ("Layer already exists", "Mounted from")

Progress = Callable[[str], None]
Event = Mapping[str, Any]


class Pace:
    """Lets one line through per interval, the first after one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = clock() + INTERVAL_SECONDS

    def due(self) -> bool:
        if self._clock() < self._next:
            return False
        self._next = self._clock() + INTERVAL_SECONDS
        return True


class BuildLog:
    """Follows a build. `image` is its id and `error` the engine's message, "" as long as there is none."""

    def __init__(self, progress: Progress, clock: Callable[[], float]) -> None:
        self.image = ""
        self.error = ""
        self.step = ""
        self.steps = 0
        self.cached = 0
        self._progress = progress
        self._pace = Pace(clock)
        self._output: deque[str] = deque(maxlen=KEPT_LINES)

    def take(self, event: Event) -> None:
        """One event of the engine."""
        self.image = event.get("aux", {}).get("ID", self.image)
        self.error = message_of(event) or self.error
        for line in COLOURS.sub("", str(event.get("stream", ""))).splitlines():
            self._line(" ".join(line.split()))

    def last_words(self) -> str:
        """What the last step printed, indented, "" if nothing."""
        return "".join(f"\n  {line}" for line in self._output)

    def _line(self, line: str) -> None:
        if line.startswith("Step "):
            self.step = line
            self.steps += 1
            self._output.clear()
            if WORK.match(line):
                self._progress(_short(line))
        elif line == "---> Using cache":
            self.cached += 1
        elif line and not line.startswith(NOISE):
            self._output.append(line)
            if self._pace.due():
                self._progress(_short(f"  {line}"))


class PushLog:
    """Follows a push. `digest` is the manifest's, "" until the registry has it."""

    def __init__(self, progress: Progress, clock: Callable[[], float]) -> None:
        self.digest = ""
        self.error = ""
        self._progress = progress
        self._pace = Pace(clock)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._there: set[str] = set()

    def take(self, event: Event) -> None:
        """One event of the engine."""
        self.digest = event.get("aux", {}).get("Digest", self.digest)
        self.error = message_of(event) or self.error
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        if status.startswith(ALREADY_THERE):
            self._there.add(layer)
        elif status == "Pushing":
            self._pushing(layer, event.get("progressDetail", {}))
        elif status == "Pushed" and layer in self._sizes:
            self._progress(f"pushed layer {layer}, {self._sizes[layer][0] / 1e6:.1f} MB")

    def summary(self) -> str:
        sent = sum(current for current, _ in self._sizes.values()) / 1e6
        return f"pushed {len(self._sizes)} layers, {sent:.1f} MB before compression; {len(self._there)} were there"

    def _pushing(self, layer: str, detail: Mapping[str, int]) -> None:
        current = detail.get("current", 0)
        self._sizes[layer] = (current, max(current, detail.get("total", 0)))
        if self._pace.due():
            sent, whole = (sum(numbers) / 1e6 for numbers in zip(*self._sizes.values(), strict=True))
            self._progress(f"pushing {sent:.1f} of {whole:.1f} MB in {len(self._sizes)} layers")


def message_of(event: Event) -> str:
    """The error that an event reports, "" if none."""
    return str(event.get("error") or event.get("errorDetail", {}).get("message", ""))


def _short(line: str) -> str:
    return line if len(line) <= LINE_LENGTH else line[: LINE_LENGTH - 1] + "…"
