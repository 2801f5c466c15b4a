r"""Equality of mathematical answers (`\boxed{\frac12}` is `0.5`), by math-verify in a process of its own.

math-verify guards itself against endless simplification by `signal.alarm`, which works in a main thread alone, and
Airflow's tasks and triggers score in others. So one worker process per process is started when first needed. It asks
the kernel to end it when an answer takes too long, and ends by itself when the process that started it is gone: its
standard input is closed then. Lines of JSON go in and out.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from sluice.errors import BadInput, Unreachable

ANSWER_SECONDS = 10.0
_START_SECONDS = 60.0
_MEMORY_BYTES = 4 * 2**30
_REMEDY = 'the scorer math needs math-verify; install it: `pip install "math-verify[antlr4_13_2]"`'


def version() -> str:
    """math-verify's and its LaTeX parser's version: scores change with either. Raises BadInput without them."""
    try:
        return ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("math-verify", "latex2sympy2-extended")
        )
    except importlib.metadata.PackageNotFoundError as error:
        raise BadInput(f"{_REMEDY} ({error})") from error


def worker() -> MathWorker:
    """This process's worker; a forked process gets its own."""
    return _worker_of(os.getpid())


@cache
def _worker_of(_process: int) -> MathWorker:
    made = MathWorker()
    atexit.register(made._end)  # not `close`: threads cannot be used any more by then
    return made


class MathWorker:
    """Scores in a process that starts with the first question; after `close` it would start again."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        """`answer_seconds`: an answer that takes longer, by the wall clock, scores 0."""
        self._answer_seconds = answer_seconds
        self._thread = ThreadPoolExecutor(1, "sluice-mathematics")  # alone touches the process: one question at a time
        self._process: subprocess.Popen[bytes] | None = None

    async def score(self, reference: str, text: str) -> float:
        """1 if the text's last answer equals the reference, else 0. Raises BadInput without math-verify, Unreachable
        if the process does not start."""
        reply = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, reference, text)
        return float(reply.get("equal", False))

    def check(self, reference: str) -> None:
        """Raises ValueError if the reference is no mathematical expression; BadInput, Unreachable like `score`."""
        if not self._thread.submit(self._ask, reference, "").result().get("readable", False):
            raise ValueError(r"write a number or LaTeX, e.g. \frac{1}{2}")

    def close(self) -> None:
        """End the process, after the question that is under way."""
        self._thread.submit(self._end).result()

    def _ask(self, reference: str, text: str) -> Mapping[str, Any]:
        """The worker's reply; empty for what it cannot bear: too slow, or it ends the worker twice."""
        for _attempt in range(2):  # once more, as the worker may have been ended by others
            reply = self._exchange(self._running(), {"reference": reference, "text": text})
            if reply is not None:
                return reply
            if self._end() == -signal.SIGALRM:
                break
        return {}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = _start(self._answer_seconds)
            ready = self._exchange(self._process, {})
            if ready is None:
                raise Unreachable(
                    f"the process that scores math ended before its first answer (exit code {self._end()}); "
                    f"try `{sys.executable} -m {__spec__.name} {self._answer_seconds:g}`"
                )
            if "missing" in ready:
                self._end()
                raise BadInput(f"{_REMEDY} ({ready['missing']})")
        return self._process

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], question: Mapping[str, str]) -> dict[str, Any] | None:
        """One line in, one line out; None if the worker ended instead."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            return None
        reply: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return reply

    def _end(self) -> int | None:
        """The exit code, negative for a signal; None if there was no process."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        with process:
            return process.wait()


def _start(answer_seconds: float) -> subprocess.Popen[bytes]:
    """A fresh interpreter that imports what this one would: neither a fork of its threads nor a child of its main."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __spec__.name, str(answer_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a supervisor waits until the last holder of its task's stderr is gone
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


# --- in the worker process -------------------------------------------------------------------------------------------


def _serve(answer_seconds: float) -> None:
    """Answer line by line until the input ends."""
    _be_mortal()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print is no reply
    logging.disable()
    for line in sys.stdin.buffer:
        question = json.loads(line)
        if question:
            signal.setitimer(signal.ITIMER_REAL, answer_seconds)
            reply = _judge(question["reference"], question["text"])
        else:
            signal.setitimer(signal.ITIMER_REAL, _START_SECONDS)
            reply = _import()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply), file=replies, flush=True)


def _be_mortal() -> None:
    """SIGALRM ends the process whatever it computes; too much memory is an error and not the machine's end."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    with contextlib.suppress(ValueError):  # macOS does not limit address space
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _import() -> dict[str, Any]:
    try:
        importlib.import_module("math_verify")  # here and not above: with sympy it takes seconds
    except ImportError as error:
        return {"missing": str(error)}
    return {}


def _judge(reference: str, text: str) -> dict[str, bool]:
    math_verify = importlib.import_module("math_verify")
    marked = reference if "$" in reference or "\\boxed" in reference else f"${reference}$"
    expected = math_verify.parse(marked, parsing_timeout=None)
    found = math_verify.parse(text, parsing_timeout=None)
    return {
        "readable": any(not isinstance(one, str) for one in expected),
        "equal": math_verify.verify(expected, found, timeout_seconds=None),
    }


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
