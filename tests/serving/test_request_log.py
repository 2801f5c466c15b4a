"""Each request leaves one line of JSON, which does not say what was asked or answered."""

import asyncio
import io
import json
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hand_driven import HandService
from hand_http import ANSWER, DECODE_SECONDS, PREFILL_SECONDS, answering, ask, client
from test_times import on_a_loop

from serving.access import Access
from serving.api import create_app
from serving.ask import Arrival, Ask
from serving.config import Settings
from serving.generation import Ending
from serving.outcome import INTERFACES, Outcome
from serving.request_log import RequestLog
from serving.tracing import TraceHeaders

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Log:
    """A log in memory."""

    def __init__(self, **settings: object) -> None:
        self.stream = io.StringIO()
        configured = Settings.model_validate({"revision": "r1", "version": "v1"} | settings)
        self.listener = RequestLog(configured, self.stream, lambda: NOW)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def asked(self, fault: str = "", headers: dict[str, str] | None = None, **parameters: object) -> dict[str, Any]:
        """The line of one request."""
        service = answering(fault, [self.listener])
        asyncio.run(ask(TraceHeaders(create_app(service)), headers, **parameters))
        (line,) = self.lines()
        return line


def test_a_line_says_when_which_version_and_how_long() -> None:
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "r-1", "x-sluice-probe": "1"}
    line = Log().asked(headers=headers, prompt="12+34=", stream=True)
    assert len(line.pop("id")) == 32
    assert line == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "revision": "r1",
        "version": "v1",
        "interface": "completions",
        "traffic": "synthetic",
        "stream": True,
        "reason": "length",
        "code": None,
        "prompt_tokens": len("12+34="),
        "output_tokens": len(ANSWER),
        "queue_seconds": 0,
        "ttft_seconds": PREFILL_SECONDS,
        "duration_seconds": PREFILL_SECONDS + DECODE_SECONDS,
        "trace_id": TRACE,
        "request_id": "r-1",
    }


def test_a_refused_request_leaves_a_line_with_its_code() -> None:
    line = Log().asked(n=2)
    assert (line["level"], line["reason"], line["code"]) == ("warning", "refused", "invalid_value")
    assert line["id"] is line["queue_seconds"] is line["ttft_seconds"] is line["trace_id"] is None


def test_every_interface_is_known_by_its_path() -> None:
    """Only what is known is counted when it has no key, and gets a span."""
    log = Log()
    app = create_app(answering(listeners=[log.listener]))

    async def post_to_all() -> list[str]:
        async with client(app) as asking:
            described = (await asking.get("/openapi.json")).json()["paths"]
            paths = [path for path, operations in described.items() if "post" in operations]
            for path in paths:
                await asking.post(path, json={})
            return paths

    paths = asyncio.run(post_to_all())
    assert dict(zip(paths, [line["interface"] for line in log.lines()], strict=True)) == INTERFACES


def test_a_request_without_the_key_does_too() -> None:
    log = Log()
    service = answering(listeners=[log.listener])
    asyncio.run(ask(Access(create_app(service), service, "sk-1"), {"authorization": "Bearer sk-wrong"}))
    assert [line["code"] for line in log.lines()] == ["invalid_api_key"]
    assert "sk-" not in log.stream.getvalue()


def test_a_failure_is_an_error() -> None:
    line = Log().asked("error:1")
    assert (line["level"], line["reason"], line["code"]) == ("error", "failed", "injected_fault")


@pytest.mark.parametrize(("ending", "level"), [(Ending.CANCELLED, "info"), (Ending.DEADLINE, "warning")])
def test_a_request_that_ends_early_leaves_its_times_so_far(ending: Ending, level: str) -> None:
    log = Log()

    @on_a_loop
    async def end_early() -> None:
        server = HandService("", Random(0), listeners=[log.listener], max_requests_per_batch=1)
        first, waiting = server.ask(), server.ask()
        server.now = 1.23456
        server.hand.give(first, "7")
        for run in (waiting, first):
            run.generation.end(ending)

    end_early()
    waited, begun = log.lines()
    assert (waited["queue_seconds"], waited["ttft_seconds"], waited["duration_seconds"]) == (None, None, 1.235)
    assert (begun["queue_seconds"], begun["ttft_seconds"], begun["output_tokens"]) == (0, 1.235, 1)
    assert (begun["reason"], begun["level"]) == (str(ending), level)


@pytest.mark.parametrize("parameters", [{}, {"stream": True}, {"max_tokens": 5000}, {"stop": ["opensesame"]}])
def test_no_text_of_prompt_or_answer_gets_into_the_log(parameters: dict[str, object]) -> None:
    log = Log()
    log.asked(prompt="rev(opensesame)=", **parameters)
    assert "opensesame" not in log.stream.getvalue()
    assert f'"{ANSWER}"' not in log.stream.getvalue()


def test_texts_are_logged_where_that_is_switched_on() -> None:
    line = Log(log_prompts=True).asked(prompt="1+1=")
    assert (line["prompt"], line["text"]) == ("1+1=", ANSWER)


def test_texts_cannot_break_a_line() -> None:
    log = Log(log_prompts=True)
    odd = 'a\nb\u2028{"level":"error"}\ud83d\0'
    log.listener(Outcome("1", Arrival(0.0, "page"), Ending.STOP, 1.0, ask=Ask(odd), text=odd))
    assert [(line["prompt"], line["text"]) for line in log.lines()] == [(odd, odd)]
    assert log.stream.getvalue().isascii()


class Recording(io.StringIO):
    """Remembers each write by itself, as the stream's reader may get it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)


def test_a_line_is_written_at_once() -> None:
    stream = Recording()
    asyncio.run(ask(create_app(answering(listeners=[RequestLog(Settings(), stream)]))))
    (line,) = stream.writes
    assert line.endswith("}\n")


class Broken(io.StringIO):
    """A pipe that nobody reads from any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_log_that_is_gone_costs_nobody_an_answer() -> None:
    service = answering(listeners=[RequestLog(Settings(), Broken())])
    assert asyncio.run(ask(create_app(service))).json()["choices"][0]["text"] == ANSWER
