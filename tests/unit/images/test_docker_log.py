"""What becomes of an engine's events in a task's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sluice.images.docker_log import INTERVAL_SECONDS, KEPT_LINES, LINE_LENGTH, BuildLog, PushLog

LAYER = "a0f9d87633a7"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def said() -> list[str]:
    return []


def build_log(said: list[str], clock: Callable[[], float] = lambda: 0.0) -> BuildLog:
    return BuildLog(said.append, clock)


def lines(*texts: str) -> Iterator[dict[str, str]]:
    return ({"stream": f"{text}\n"} for text in texts)


def take(log: BuildLog, *texts: str) -> None:
    for event in lines(*texts):
        log.take(event)


def test_only_steps_that_take_time_are_told(said: list[str]) -> None:
    take(
        build_log(said), "Step 1/4 : FROM debian", "Step 2/4 : ARG REVISION", "Step 3/4 : COPY a b", "Step 4/4 : USER 1"
    )
    assert said == ["Step 1/4 : FROM debian", "Step 3/4 : COPY a b"]


def test_steps_from_the_cache_are_counted(said: list[str]) -> None:
    log = build_log(said)
    take(log, "Step 1/2 : FROM debian", " ---> 6c48b8185618", "Step 2/2 : RUN true", " ---> Using cache")
    assert (log.steps, log.cached) == (2, 1)


def test_what_a_step_prints_is_told_at_intervals(said: list[str]) -> None:
    clock = Clock()
    log = build_log(said, clock)
    take(log, "Step 1/1 : RUN pip install", "Collecting a", "Collecting b")
    clock.seconds += INTERVAL_SECONDS
    take(log, "Collecting c", "Collecting d")
    clock.seconds += INTERVAL_SECONDS
    take(log, "Collecting e")
    assert said == ["Step 1/1 : RUN pip install", "  Collecting c", "  Collecting e"]


def test_an_error_comes_with_the_last_lines_of_its_step_without_colours(said: list[str]) -> None:
    log = build_log(said)
    take(log, "Step 1/2 : RUN one", "of another step", "Step 2/2 : RUN two")
    take(log, *(f"line {number}" for number in range(30)), "\x1b[91mfailed\x1b[0m", "Removing intermediate container 1")
    log.take({"errorDetail": {"message": "returned a non-zero code: 1"}, "error": "returned a non-zero code: 1"})
    assert log.error == "returned a non-zero code: 1"
    assert log.step == "Step 2/2 : RUN two"
    assert log.last_words().splitlines() == ["", *(f"  line {number}" for number in range(11, 30)), "  failed"]
    assert len(log.last_words().splitlines()) == KEPT_LINES + 1


def test_a_long_line_is_cut(said: list[str]) -> None:
    take(build_log(said), "Step 1/1 : RUN " + "x" * 500)
    assert [len(line) for line in said] == [LINE_LENGTH]


def test_the_image_is_known_once_it_is_whole(said: list[str]) -> None:
    log = build_log(said)
    assert log.image == ""
    log.take({"aux": {"ID": "sha256:feed"}})
    assert log.image == "sha256:feed"


def pushing(current: int, total: int = 3_000_000) -> dict[str, object]:
    return {"status": "Pushing", "id": LAYER, "progressDetail": {"current": current, "total": total}}


def test_a_push_tells_megabytes_at_intervals_and_each_layer_when_it_is_there(said: list[str]) -> None:
    clock = Clock()
    log = PushLog(said.append, clock)
    log.take(pushing(1_000_000))
    log.take(pushing(2_000_000))
    clock.seconds += INTERVAL_SECONDS
    log.take(pushing(3_000_000))
    log.take({"status": "Pushed", "id": LAYER})
    assert said == [
        "pushing 3.0 of 3.0 MB in 1 layers",
        f"pushed layer {LAYER}, 3.0 MB",
    ]


def test_a_push_sums_up_what_it_sent_and_what_was_there(said: list[str]) -> None:
    log = PushLog(said.append, Clock())
    log.take(pushing(3_500_000))
    log.take({"status": "Layer already exists", "id": "1"})
    log.take({"status": "Mounted from sluice-base", "id": "2"})
    log.take({"aux": {"Tag": "v1", "Digest": "sha256:feed", "Size": 946}})
    assert log.digest == "sha256:feed"
    assert log.summary() == "pushed 1 layers, 3.5 MB before compression; 2 were there"
