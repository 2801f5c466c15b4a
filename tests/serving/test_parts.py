"""The parts of the server that are plain data: admission, text, drills, classes."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hand_driven import HandService, on_a_loop

from arithmetic.checkpoint import encode, new_tokenizer
from serving.admission import Admission
from serving.config import Settings
from serving.errors import ContextTooLong, InsufficientKvCache, QueueFull
from serving.fault import Act, Drill, Fault, FaultError, WrongText
from serving.metrics import size_class
from serving.text import TextAssembler


@dataclass(eq=False)
class Job:
    """A job that records when it starts."""

    name: str
    tokens: int
    started: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.started.append(self.name)


def admission(**changes: int) -> Admission:
    return Admission(
        **{"context_tokens": 256, "cache_tokens": 128, "page_tokens": 16, "max_running": 4, "max_waiting": 8} | changes
    )


def line(*tokens: int) -> tuple[list[Job], list[str]]:
    """Jobs of these sizes, and the list in which their starts are recorded."""
    started: list[str] = []
    return [Job(str(number), size, started) for number, size in enumerate(tokens)], started


def test_what_exceeds_the_context_is_the_clients_fault_and_what_exceeds_the_cache_the_servers() -> None:
    with pytest.raises(ContextTooLong):
        admission().check(200, 57)
    with pytest.raises(InsufficientKvCache):
        admission().check(100, 29)
    admission().check(100, 28)


def test_jobs_start_in_order_as_pages_become_free() -> None:
    gate = admission()
    jobs, started = line(100, 64, 16)
    for job in jobs:
        gate.submit(job)
    assert started == ["0"], "the small one must not overtake, or the large one would never start"
    gate.leave(jobs[0])
    assert started == ["0", "1", "2"]
    assert (gate.running, gate.waiting) == (2, 0)


def test_slots_limit_running_jobs() -> None:
    gate = admission(max_running=1)
    jobs, started = line(16, 16)
    for job in jobs:
        gate.submit(job)
    assert started == ["0"]


def test_a_job_that_gives_up_waiting_frees_its_place_in_line_only() -> None:
    gate = admission(max_running=1)
    jobs, started = line(16, 16, 16)
    for job in jobs:
        gate.submit(job)
    gate.leave(jobs[1])
    gate.leave(jobs[1])
    assert (gate.running, gate.waiting, started) == (1, 1, ["0"])
    gate.leave(jobs[0])
    assert started == ["0", "2"]


@pytest.mark.parametrize("max_waiting", [0, 2])
def test_the_queue_is_full_after_max_waiting(max_waiting: int) -> None:
    gate = admission(max_running=1, max_waiting=max_waiting)
    jobs, _ = line(*[16] * (1 + max_waiting))
    for job in jobs:
        gate.check(8, 8)
        gate.submit(job)
    with pytest.raises(QueueFull):
        gate.check(8, 8)


def test_reserved_pages_never_exceed_the_cache() -> None:
    rng, gate, running = random.Random(5), admission(max_waiting=1000), list[Job]()

    @dataclass(eq=False)
    class Recorded(Job):
        def start(self) -> None:
            running.append(self)

    for number in range(500):
        gate.submit(Recorded(str(number), rng.randint(1, 128)))
        if rng.random() < 0.6:
            gate.leave(running.pop(rng.randrange(len(running))))
        assert sum(-(-job.tokens // 16) for job in running) <= 8
        assert len(running) == gate.running > 0


def assembled(text: str, *stop: str) -> tuple[list[str], bool]:
    assembler = TextAssembler(new_tokenizer().backend_tokenizer, stop)
    pieces = [assembler.push([token]) for token in encode(text)]
    return [*pieces, assembler.flush()], assembler.stopped


def test_text_comes_token_by_token_and_without_the_end_token() -> None:
    assert assembled("46\n") == (["4", "6", "", ""], False)


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    assert assembled("abxabc", "abc") == (["", "", "abx", "", "", "", ""], True)
    assert assembled("xab", "abc") == (["x", "", "", "ab"], False)


@on_a_loop
async def test_a_reader_that_is_slow_gets_the_end_of_the_answer_too() -> None:
    server = HandService("", random.Random(1))
    run = server.ask()
    texts = run.generation.texts()
    server.hand.give(run, "4")
    first = await anext(texts)
    server.hand.give(run, "46", finished=True)  # while the reader takes the first piece
    assert [first, *[text async for text in texts]] == ["4", "46"]


def test_the_first_stop_string_in_the_text_counts() -> None:
    pieces, stopped = assembled("one two three", "three", "two")
    assert ("".join(pieces), stopped) == ("one ", True)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "error",
            "error:x",
            "error:1.5",
            "error_after:0.2",
            "error_after:-1:0.2",
            "slow:0.5",
            "crash_after:a",
            "oops",
        ),
        *("wrong", "wrong:2", "hang:-1", "hang:nan", "late:-1", "late:soon"),
    ],
)
def test_an_unknown_drill_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="error:SHARE"):
        Fault.parse(text)


def test_error_drill_fails_its_share_of_all_traffic() -> None:
    drill = Drill(Fault.parse("error:0.2"), random.Random(1))
    acts = [drill.arrival(user=False) for _ in range(2000)]
    assert acts.count(Act.FAIL) == pytest.approx(400, abs=60)


@pytest.mark.parametrize(("fault", "act"), [("error", Act.FAIL), ("wrong", Act.WRONG), ("hang", Act.HANG)])
def test_a_share_strikes_the_same_requests_every_time(fault: str, act: Act) -> None:
    first, second = (
        [drill.arrival(user=True) for _ in range(200)]
        for drill in (Drill(Fault.parse(f"{fault}:0.3"), random.Random(0)) for _ in range(2))
    )
    assert first == second
    assert set(first) == {Act.SERVE, act}
    assert first.count(act) == pytest.approx(60, abs=25)


@pytest.mark.parametrize(("fault", "act"), [("error_after:2:1", Act.FAIL), ("hang_after:2:1", Act.HANG)])
def test_a_fault_with_a_beginning_counts_user_requests_only(fault: str, act: Act) -> None:
    drill = Drill(Fault.parse(fault), random.Random(1))
    acts = [drill.arrival(user=user) for user in (False, True, False, True, False, True)]
    assert acts == [Act.SERVE] * 4 + [act] * 2


def test_crash_after_strikes_the_next_user_request() -> None:
    drill = Drill(Fault.parse("crash_after:1"), random.Random(1))
    acts = [drill.arrival(user=user) for user in (True, False, True)]
    assert acts == [Act.SERVE, Act.SERVE, Act.CRASH]


def test_slow_drill_shows_a_token_a_factor_later() -> None:
    drill = Drill(Fault.parse("slow:3"), random.Random(1))
    assert 0.2 + drill.delay_seconds(0.2) == pytest.approx(0.6)
    assert Drill(Fault.parse(""), random.Random(1)).delay_seconds(0.2) == 0


def test_slow_after_begins_with_the_user_request_after_those_that_are_spared() -> None:
    drill = Drill(Fault.parse("slow_after:1:3"), random.Random(1))
    delays = []
    for user in (True, False, True):
        drill.arrival(user=user)
        delays.append(drill.delay_seconds(0.2))
    assert delays == [0, 0, pytest.approx(0.4)]


def test_late_drill_shows_every_token_as_much_later() -> None:
    drill = Drill(Fault.parse("late:1.5"), random.Random(1))
    assert [drill.delay_seconds(elapsed) for elapsed in (0.0, 7.0)] == [1.5, 1.5]


def test_a_wrong_text_is_the_right_one_with_every_letter_and_digit_rotated() -> None:
    assembler = WrongText(new_tokenizer().backend_tokenizer, ["ten"])
    assert [assembler.push([token]) for token in encode("-19 aZt")] == ["-", "2", "0", " ", "b", "A", ""]
    assert assembler.flush() == "u"


@pytest.mark.parametrize(
    ("tokens", "name"), [(1, "1-32"), (32, "1-32"), (33, "33-128"), (128, "33-128"), (129, "129+")]
)
def test_classes_meet_at_their_bounds(tokens: int, name: str) -> None:
    assert size_class(tokens, (32, 128)) == name


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment(
        {"MODEL_DIR": "/models/a", "VERSION": "v7", "SERVING_PROMPT_CLASSES": "8,64", "SERVING_ALLOW_FAULTS": "1"}
    )
    assert settings.model_dir == Path("/models/a")
    assert (settings.version, settings.prompt_classes, settings.allow_faults) == ("v7", (8, 64), True)
