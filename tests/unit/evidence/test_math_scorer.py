"""The scorer `math`: what equals what, and a worker process that neither hangs nor stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from sluice.evidence.mathematics import MathWorker
from sluice.evidence.scorers import score
from sluice.ports import Prompt

pytestmark = pytest.mark.slow
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
ENDLESS = "$9^{9^{9^{9}}}$"


@pytest.fixture(scope="module")
def math() -> Iterator[MathWorker]:
    worker = MathWorker()
    yield worker
    worker.close()


@pytest.fixture
def impatient() -> Iterator[MathWorker]:
    worker = MathWorker(answer_seconds=2)
    yield worker
    worker.close()


def children() -> set[int]:
    """Pids of the worker processes of this process, which may have children of other tests that nobody waited for."""
    found = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {child.pid for child in found if "sluice.evidence.mathematics" in child.cmdline()}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (r"\frac{1}{2}", r"so it is \boxed{0.5}"),
        (r"\boxed{7}", "7"),
        ("x^2+1", r"$1+x^2$"),
        ("1234", "1,234"),
        ("-3", "$−3$"),
        (r"72\text{ km/h}", "72"),
        ("10", "10%"),  # lenient, and written so in the documentation
    ],
)
async def test_equal(math: MathWorker, reference: str, text: str) -> None:
    assert await math.score(reference, text) == 1.0


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("42", ""),
        ("42", "41"),
        ("42", r"\boxed{41}, not 42"),
        ("1/3", "0.333"),
        ("42", "\ud800"),
        ("42", "(" * 100_000),
    ],
)
async def test_unequal(math: MathWorker, reference: str, text: str) -> None:
    assert await math.score(reference, text) == 0.0


async def test_a_cut_thought_is_no_answer() -> None:
    prompt = Prompt("p", "c", "?", "42", "math", 8)
    assert await score(prompt, "<think>\n 42 is likely") == 0.0
    assert await score(prompt, "41?</think>42") == 1.0


async def test_an_answer_that_never_ends_scores_nothing_and_the_next_is_scored(impatient: MathWorker) -> None:
    before = children()
    assert await impatient.score("1", ENDLESS) == 0.0
    assert children() == before  # ended, not left to compute
    assert await impatient.score("1", "1") == 1.0


async def test_a_worker_that_was_killed_is_started_again(math: MathWorker) -> None:
    before = children()
    worker = MathWorker()
    assert await worker.score("1", "1") == 1.0
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    assert await worker.score("1", "1") == 1.0
    worker.close()
    assert children() == before


def test_a_thread_with_an_event_loop_of_its_own_scores(math: MathWorker) -> None:
    scores: list[float] = []
    threads = [
        threading.Thread(target=lambda: scores.append(asyncio.run(math.score("1/2", r"\boxed{\frac12}"))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [1.0, 1.0, 1.0]


async def test_many_questions_at_once_are_answered_by_one_process(math: MathWorker) -> None:
    scores = await asyncio.gather(*(math.score(str(number), "3") for number in range(6)))
    assert scores == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_forked_process_has_a_worker_of_its_own() -> None:
    program = """
        import asyncio, os
        from sluice.evidence.mathematics import worker
        score = lambda: asyncio.run(worker().score("1/2", "0.5"))
        before = score()
        forked = os.fork()
        if not forked:
            os._exit(round(10 * score()))
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 10
        assert before == score() == 1.0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=ENVIRONMENT, check=True, timeout=60)


@pytest.mark.parametrize("busy", [False, True])
def test_no_worker_outlives_the_process_that_started_it(busy: bool) -> None:
    program = f"""
        import asyncio, psutil, threading
        from sluice.evidence.mathematics import MathWorker
        math = MathWorker(answer_seconds=3)
        asyncio.run(math.score("1", "1"))
        (worker,) = psutil.Process().children()
        idle_seconds = worker.cpu_times().user
        if {busy}:
            threading.Thread(target=lambda: asyncio.run(math.score("1", {ENDLESS!r}))).start()
            while worker.cpu_times().user < idle_seconds + 0.1:
                threading.Event().wait(0.01)
        print(worker.pid, flush=True)
        threading.Event().wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_sympy_is_imported_by_the_worker_alone() -> None:
    program = "import sys, sluice.evidence.prompts; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=False).returncode == 0
