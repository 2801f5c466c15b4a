"""How answers are read and measured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.server.client import Answer, Sample, WrongAnswer, complete, read, session
from benchmarks.server.workload import Ask, question_asks, questions, random_asks

PROMPTS = Path(__file__).resolve().parents[3] / "prompts" / "arithmetic.jsonl"
ASK = Ask(" bada dida", 3, exact=True)


async def stream(*parts: str) -> AsyncIterator[bytes]:
    for part in parts:
        yield part.encode()


def event(text: str, finish_reason: str | None = None, completion_tokens: int | None = None) -> str:
    usage = None if completion_tokens is None else {"completion_tokens": completion_tokens}
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice], 'usage': usage})}\n\n"


DONE = "data: [DONE]\n\n"


async def test_tokens_are_counted_by_usage_and_not_by_events() -> None:
    answer = await read(stream(event(" dida bada"), event("", "length", 3), DONE), ASK, sent=0.0)
    assert answer.tokens == 3


async def test_an_answer_that_arrives_at_once_is_read_as_well() -> None:
    answer = await read(stream(event(" dida bada fugu", "length", 3) + DONE), ASK, sent=0.0)
    assert (answer.tokens, answer.first_token) == (3, pytest.approx(answer.ended, abs=0.1))


async def test_the_first_token_is_the_first_text_even_if_its_event_comes_in_pieces() -> None:
    seen: list[str] = []

    async def parts() -> AsyncIterator[bytes]:
        for part in (event(""), event(" dida")[:20], event(" dida")[20:], event("", "length", 3)):
            seen.append(part)
            yield part.encode()

    clock = iter([10.0, 20.0])

    answer = await read(parts(), ASK, sent=1.0, clock=lambda: next(clock) + len(seen) / 10)
    assert answer.first_token == pytest.approx(10.3)
    assert answer.ttft_seconds == pytest.approx(9.3)


@pytest.mark.parametrize(
    "last",
    [event("", "length", 2), event("", "stop", 4), event("", None, 3), event("", "length"), event(" dida"), "", DONE],
    ids=["too few", "too many", "no reason", "no usage", "cut", "nothing", "only the end"],
)
async def test_an_answer_that_is_not_as_asked_is_an_error(last: str) -> None:
    with pytest.raises(WrongAnswer):
        await read(stream(event(" dida"), last), ASK, sent=0.0)


async def test_a_stream_that_ends_with_an_error_is_an_error() -> None:
    with pytest.raises(WrongAnswer, match="memory"):
        await read(stream(event(" dida"), 'data: {"error": "out of memory"}\n\n'), ASK, sent=0.0)


async def test_a_model_that_ends_by_itself_may_give_fewer_tokens() -> None:
    question = Ask("1+1=", 8, exact=False)
    assert (await read(stream(event("2"), event("", "stop", 2), DONE), question, sent=0.0)).tokens == 2


def test_speed_is_from_the_first_request_to_the_last_answer() -> None:
    sample = Sample.of([Answer(1.0, 1.1, 2.0, 30), Answer(1.5, 1.8, 3.0, 50)])
    assert sample.tokens_per_second == pytest.approx(40.0)
    assert sample.ttft_p50_seconds == pytest.approx(0.2)
    assert sample.ttft_p95_seconds == pytest.approx(0.29)


def test_requests_depend_on_the_seed_alone() -> None:
    assert random_asks("3-1", 20) == random_asks("3-1", 20) != random_asks("3-2", 20)
    known = questions(PROMPTS)
    assert question_asks(known, "3", 20) == question_asks(known, "3", 20) != question_asks(known, "4", 20)


def test_random_requests_are_for_8_to_128_tokens() -> None:
    asked = random_asks("3", 500)
    assert {ask.max_tokens for ask in asked} >= {8, 128}
    assert all(8 <= ask.max_tokens <= 128 and ask.exact for ask in asked)
    assert all(8 <= ask.prompt.count(" ") <= 64 for ask in asked)


# --- one request over HTTP --------------------------------------------------------------------------------------------


async def ask_a_server(answer: web.StreamResponse) -> None:
    """Send ASK to a server that answers so."""

    async def completions(_: web.Request) -> web.StreamResponse:
        return answer

    app = web.Application()
    app.router.add_post("/v1/completions", completions)
    async with TestServer(app) as server, session() as http:
        await complete(http, str(server.make_url("")).rstrip("/"), ASK)


async def test_a_refusal_is_an_error_that_knows_its_status() -> None:
    with pytest.raises(WrongAnswer, match="queue is full") as refused:
        await ask_a_server(web.Response(status=429, text="the queue is full"))
    assert refused.value.status == 429


async def test_a_wrong_answer_has_no_status_although_it_came_with_200() -> None:
    with pytest.raises(WrongAnswer) as wrong:
        await ask_a_server(web.Response(text=event(" dida") + DONE))
    assert wrong.value.status == 0


async def test_a_server_that_is_gone_is_an_error() -> None:
    async with session() as http:
        with pytest.raises(WrongAnswer, match="broken off"):
            await complete(http, "http://127.0.0.1:9", ASK)
