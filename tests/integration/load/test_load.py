"""The load generator against a small server: what users sent, what failed, and why, to the last request."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from benchmarks.demo.load import WARM_UP_HOST, Load, LoadError, Mix, Planned, Question, Result, plan

QUESTIONS: list[Question] = [("1+2=", "3", 4), ("9-4=", "5", 4)]
HOST = "model.example.com"
Answer = Callable[[int, web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(text: str, reason: str = "stop", total: int = 5) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": total}
    return {"choices": [{"text": text, "finish_reason": reason}], "usage": usage}


async def stream(request: web.Request, events: list[str]) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for event in events:
        await response.write(f"data: {event}\n\n".encode())
    return response


async def good(number: int, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if body["stream"]:
        return await stream(request, [json.dumps(completion("3")), "[DONE]"])
    return web.json_response(completion("3"))


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that answers by `answer`, which gets the number of the request; yields its URL and the requests."""
    requests: list[web.Request] = []
    numbers = itertools.count()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.host == WARM_UP_HOST:
            return web.Response(status=404)
        requests.append(request)
        return await answer(next(numbers), request, await request.json())

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    finally:
        await runner.cleanup()


def planned(count: int, mix: Mix | None = None) -> Iterator[Planned]:
    return itertools.islice(plan(mix or Mix(rate=500), QUESTIONS), count)


async def sent(url: str, out: Path, requests: Iterator[Planned]) -> list[Result]:
    load = Load(url, HOST, out)
    await load.run(requests, max_seconds=60, stop=asyncio.Event())
    results = [Result(**json.loads(line)) for line in (out / "requests.jsonl").read_text().splitlines()]
    assert (load.sent, load.failed) == (len(results), sum(not result.ok for result in results))
    return results


async def test_every_good_answer_counts_once(tmp_path: Path) -> None:
    async with gateway(good) as (url, requests):
        results = await sent(url, tmp_path, planned(100))

    assert [result.why for result in results if not result.ok] == []
    assert len(results) == 100
    assert sorted(request.headers["x-request-id"] for request in requests) == sorted(r.request_id for r in results)
    assert {request.host for request in requests} == {HOST}


async def test_exactly_the_failed_tenth_is_told_with_status_and_body(tmp_path: Path) -> None:
    async def tenth_fails(number: int, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=503, text="no cache") if number % 10 == 3 else await good(number, request, body)

    async with gateway(tenth_fails) as (url, _):
        results = await sent(url, tmp_path, planned(200))

    failed = [result for result in results if not result.ok]
    assert len(failed) == 20
    assert {(result.status, result.why) for result in failed} == {(503, "status 503: no cache")}


async def test_a_cut_stream_is_a_failure_although_its_status_was_200(tmp_path: Path) -> None:
    async def cut(number: int, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, [json.dumps(completion("3", reason=""))])
        assert request.transport is not None
        request.transport.abort()
        return response

    async with gateway(cut) as (url, _):
        results = await sent(url, tmp_path, planned(20, Mix(rate=500, stream_share=1.0)))

    assert [result.ok for result in results] == [False] * 20
    assert {result.status for result in results} == {200}
    assert all(result.why.startswith("broken") for result in results)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (completion(""), "empty text"),
        (completion("3", reason="error"), "finish_reason 'error'"),
        (completion("3", total=6), "usage does not add up: 3 + 2 = 6"),
        ({"choices": [{"text": "3", "finish_reason": "stop"}], "usage": None}, "no usage"),
        ({"error": "odd"}, "no completion"),
    ],
    ids=["empty", "reason", "sum", "no-usage", "no-completion"],
)
async def test_a_wrong_answer_with_status_200_is_a_failure(tmp_path: Path, body: dict[str, Any], why: str) -> None:
    async def wrong(number: int, request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body)

    async with gateway(wrong) as (url, _):
        (result,) = await sent(url, tmp_path, planned(1, Mix(rate=500, stream_share=0.0)))

    assert not result.ok
    assert result.why.startswith(why)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([json.dumps(completion("3"))], "the stream ended without [DONE] after 1 events"),
        ([], "the stream ended without [DONE] after 0 events"),
        ([json.dumps(completion("")), "[DONE]"], "a stream without text"),
        (['{"error": "engine"}', "[DONE]"], "no event of a completion"),
    ],
    ids=["no-done", "nothing", "no-text", "error"],
)
async def test_a_stream_that_ends_badly_is_a_failure(tmp_path: Path, events: list[str], why: str) -> None:
    async def bad(number: int, request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return await stream(request, events)

    async with gateway(bad) as (url, _):
        (result,) = await sent(url, tmp_path, planned(1, Mix(rate=500, stream_share=1.0)))

    assert not result.ok
    assert result.why.startswith(why)


async def test_slow_answers_do_not_slow_the_sending(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(number: int, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if number == 49:
            release.set()
        await release.wait()
        return await good(number, request, body)

    async with gateway(held) as (url, requests):
        results = await sent(url, tmp_path, planned(50))

    assert len(requests) == 50
    assert all(result.ok for result in results)


async def test_no_gateway_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"No gateway answers at .*--gateway"):
        await sent("http://127.0.0.1:1", tmp_path, planned(1))


def test_the_plan_has_the_shares_and_the_rate_and_repeats() -> None:
    mix = Mix(rate=30, long_share=0.2, long_characters=200, stream_share=0.3)
    requests = list(planned(5000, mix))

    assert requests == list(planned(5000, mix))
    assert len(requests) / requests[-1].after_seconds == pytest.approx(30, rel=0.05)
    assert sum(request.streamed for request in requests) / 5000 == pytest.approx(0.3, abs=0.03)
    assert sum(request.kind == "long" for request in requests) / 5000 == pytest.approx(0.2, abs=0.03)
    assert all((len(request.prompt) > 200) == (request.kind == "long") for request in requests)


@pytest.mark.slow
async def test_sigterm_ends_it_with_every_answer_written(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "1+2=", "answer": "3", "max_tokens": 4}\n')
    results = tmp_path / "requests.jsonl"
    async with gateway(good) as (url, requests):
        options = ["--gateway", url, "--host", HOST, "--out", str(tmp_path), "--prompts", str(prompts)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.demo.load", *options, "--rate", "100", stdout=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        while not (results.exists() and results.read_text()):
            assert time.monotonic() < deadline, "no results within 30 s"
            await asyncio.sleep(0.05)
        process.terminate()
        said, _ = await process.communicate()

    assert process.returncode == 0
    assert len(results.read_text().splitlines()) == len(requests)
    assert f"load: {len(requests)} requests" in said.decode()
