"""Processes of one's own: known by pid *and* start time, so that no foreign process is ever signalled.

A pid alone may belong to anybody a moment later; together with the start time that Linux keeps for it, it cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, this one and no later one of the same pid; `start_ticks` as in /proc/PID/stat."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has this pid now; None if there is none, or only its exit status is left."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else cls(pid, int(fields[18]))

    @classmethod
    def read(cls, path: Path) -> ProcessIdentity | None:
        """The process that a pid file names, whether it lives or not; None without a (whole) file."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        replace_file(path, json.dumps(asdict(self)))

    def alive(self) -> bool:
        return ProcessIdentity.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send to this process, and to its group if it leads one; nothing if it is gone."""
        if not self.alive():
            return
        try:
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def end(self, grace_seconds: float) -> bool:
        """SIGTERM, wait, SIGKILL. Returns whether it went by itself. Not for one's own children (they need a wait)."""
        self.signal(signal.SIGTERM)
        if self.gone_within(grace_seconds):
            return True
        self.signal(signal.SIGKILL)
        self.gone_within(5)
        return False

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def die_with_parent() -> None:
    """To be called in a child before exec: Linux kills it when its parent ends, however that happens."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def replace_file(path: Path, text: str) -> None:
    """Write a whole file or nothing: readers see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


async def run_until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` as a service does: logging to standard error; SIGTERM and SIGINT cancel it and it cleans up."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
