"""Probes against a real HTTP server: what counts as an answer, and from when to when times are taken."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from sluice.errors import BadInput, Unreachable
from sluice.evidence.endpoint import HttpEndpoint
from sluice.evidence.stream import Stream
from sluice.ports import Prompt
from tests.unit.evidence.completions_server import Server, completions_server, text


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with completions_server() as server:
        yield server


@pytest.fixture
async def endpoint(server: Server) -> AsyncIterator[HttpEndpoint]:
    """An endpoint whose clock goes one second further each time it is read: sent 1, first text 2, end 3."""
    clock = itertools.count().__next__
    async with HttpEndpoint(
        server.url, "api.example.com", "arithmetic", timeout_seconds=5, monotonic=clock
    ) as endpoint:
        yield endpoint


def prompt(name: str) -> Prompt:
    return Prompt("p-1", "add", name, "42", "exact", max_tokens=8)


async def test_an_answer_is_the_streamed_text_with_its_usage(endpoint: HttpEndpoint) -> None:
    answer = await endpoint.ask(prompt("whole"), "canary", "t0k3n")
    assert (answer.text, answer.finish_reason, answer.error) == ("42", "stop", "")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 5)


async def test_a_probe_names_its_version_by_header_and_asks_greedily(server: Server, endpoint: HttpEndpoint) -> None:
    await endpoint.ask(prompt("whole"), "stable", "t0k3n")
    assert server.headers[-1]["host"] == "api.example.com"
    assert server.headers[-1]["x-sluice-probe"] == "stable-t0k3n"
    assert server.bodies[-1] == {
        "model": "arithmetic",
        "prompt": "whole",
        "max_tokens": 8,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_times_count_from_sending_to_the_first_text_and_to_the_end(endpoint: HttpEndpoint) -> None:
    answer = await endpoint.ask(prompt("whole"), "canary", "t0k3n")
    assert (answer.ttft_seconds, answer.e2e_seconds) == (1, 2)
    assert answer.tpot_seconds == (2 - 1) / (5 - 1)


async def test_sending_begins_on_an_open_connection(server: Server) -> None:
    """Made at 0, sent at 10, first text at 20, end at 30: the ten seconds before sending are not part of any time."""
    readings = iter([0.0, 10.0, 20.0, 30.0])
    async with HttpEndpoint(server.url, "h", "m", monotonic=readings.__next__) as endpoint:
        answer = await endpoint.ask(prompt("whole"), "canary", "t0k3n")
    assert (answer.ttft_seconds, answer.e2e_seconds) == (10, 20)


async def test_tokens_are_counted_by_usage_and_not_by_events(endpoint: HttpEndpoint) -> None:
    answer = await endpoint.ask(prompt("one event"), "canary", "t0k3n")
    assert answer.completion_tokens == 5
    assert answer.tpot_seconds == 0.25


async def test_without_usage_there_is_no_time_per_token(endpoint: HttpEndpoint) -> None:
    answer = await endpoint.ask(prompt("no usage"), "canary", "t0k3n")
    assert (answer.error, answer.completion_tokens, answer.tpot_seconds) == ("", 0, None)


async def test_the_first_text_of_an_empty_answer_is_its_end(endpoint: HttpEndpoint) -> None:
    answer = await endpoint.ask(prompt("no text"), "canary", "t0k3n")
    assert (answer.text, answer.error) == ("", "")
    assert answer.ttft_seconds == answer.e2e_seconds == 1


async def test_comments_that_keep_a_stream_alive_are_no_events(endpoint: HttpEndpoint) -> None:
    assert (await endpoint.ask(prompt("with comments"), "canary", "t0k3n")).error == ""


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        ("no finish reason", "the stream ended after 3 events without a finish_reason"),
        ("no end", "the stream ended after 1 events without [DONE]"),
        ("error event", "the stream broke after 2 events: error event: worker died"),
        ("garbage", "the stream broke after 2 events: '{broken' is no event of the completions API"),
        ("cut", "the stream broke after 1 events: peer closed connection"),
        ("refused", "HTTP 429 queue_full: 16 requests wait"),
        ("gateway", "HTTP 503: no healthy upstream"),
        ("not a stream", "the stream broke after 0 events: Expected response header Content-Type"),
    ],
)
async def test_what_is_not_a_whole_answer_says_why(endpoint: HttpEndpoint, stream: str, error: str) -> None:
    answer = await endpoint.ask(prompt(stream), "canary", "t0k3n")
    assert answer.error.startswith(error)


async def test_what_came_before_the_break_is_kept(endpoint: HttpEndpoint) -> None:
    assert (await endpoint.ask(prompt("cut"), "canary", "t0k3n")).text == "4"


async def test_a_stream_without_end_is_given_up(server: Server) -> None:
    async with HttpEndpoint(server.url, "h", "m", timeout_seconds=0.1) as endpoint:
        answer = await endpoint.ask(prompt("hangs"), "canary", "t0k3n")
    assert answer.error == "the answer did not end within 0.1 s"


async def test_many_probes_at_once_get_their_own_answers(endpoint: HttpEndpoint) -> None:
    names = ["whole", "one event", "cut", "refused"] * 10
    answers = await asyncio.gather(*(endpoint.ask(prompt(name), "canary", "t0k3n") for name in names))
    assert [answer.text for answer in answers] == ["42", "all of it", "4", ""] * 10


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def test_no_gateway_is_not_a_fault_of_the_version() -> None:
    async with HttpEndpoint(f"http://127.0.0.1:{closed_port()}", "api.example.com", "m") as endpoint:
        with pytest.raises(Unreachable, match=r"gateway at http://127.* does not answer for api.example.com"):
            await endpoint.ask(prompt("whole"), "canary", "t0k3n")
        with pytest.raises(Unreachable, match="does not answer"):
            await endpoint.model_info("canary", "t0k3n")
        with pytest.raises(Unreachable, match="does not answer"):
            await endpoint.logprobs("2+2=", "4", "canary", "t0k3n")


async def test_the_description_is_that_of_the_version_behind_the_header(endpoint: HttpEndpoint) -> None:
    assert await endpoint.model_info("canary", "t0k3n") == {"model": "arithmetic", "revision": "r2"}


async def test_a_version_that_does_not_describe_itself_is_not_reached(endpoint: HttpEndpoint) -> None:
    with pytest.raises(Unreachable, match=r"stable.* answered HTTP 503 .*no healthy upstream.*pods"):
        await endpoint.model_info("stable", "t0k3n")


async def test_servers_that_want_a_key_get_it(server: Server) -> None:
    server.key = "k3y"
    async with HttpEndpoint(server.url, "api.example.com", "arithmetic", key="k3y") as endpoint:
        assert await endpoint.model_info("canary", "t0k3n") == {"model": "arithmetic", "revision": "r2"}


async def test_a_wrong_key_is_for_a_person_to_mend(server: Server) -> None:
    server.key = "k3y"
    async with HttpEndpoint(server.url, "api.example.com", "arithmetic", key="0ld") as endpoint:
        with pytest.raises(BadInput, match=r"HTTP 401: correct SLUICE_ENDPOINT_KEY") as caught:
            await endpoint.model_info("canary", "t0k3n")
    assert "0ld" not in str(caught.value)


async def test_log_probabilities_are_those_of_the_answers_tokens(endpoint: HttpEndpoint) -> None:
    assert await endpoint.logprobs("2+2", "=4", "canary", "t0k3n") == [-0.5, -2.0]
    assert await endpoint.logprobs("one", "", "canary", "t0k3n") == []


async def test_a_text_is_echoed_by_the_version_behind_the_header(server: Server, endpoint: HttpEndpoint) -> None:
    await endpoint.logprobs("2+2=", "4", "stable", "t0k3n")
    assert server.headers[-1]["x-sluice-probe"] == "stable-t0k3n"
    asked = {"model": "arithmetic", "prompt": "2+2=4", "echo": True, "logprobs": 0, "max_tokens": 0}
    assert server.bodies[-1] == asked


@pytest.mark.parametrize("text", ["refused", "without", "generated", "holes", "no number", "nothing", "unplaced"])
async def test_a_version_that_cannot_say_log_probabilities_says_none(endpoint: HttpEndpoint, text: str) -> None:
    assert await endpoint.logprobs(text[:1], text[1:], "canary", "t0k3n") is None


@pytest.mark.parametrize(("text", "status"), [("gateway", 503), ("no room", 429)])
async def test_a_version_that_cannot_be_asked_now_is_not_one_that_cannot_say(
    endpoint: HttpEndpoint, text: str, status: int
) -> None:
    with pytest.raises(Unreachable, match=f"HTTP {status} without log-probabilities: .*pods"):
        await endpoint.logprobs(text, "", "canary", "t0k3n")


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    stream = Stream(lambda: 0.0)
    stream.take(text("4", "stop").removeprefix("data: "))
    stream.take('{"usage": {"completion_tokens": 1}}')
    assert stream.answer("").tpot_seconds is None


def test_half_characters_are_joined_again_or_marked_as_lost() -> None:
    stream = Stream(lambda: 0.0)
    for half in (r"\ud83d", r"\ude00", r"\ud83d"):
        stream.take('{"choices": [{"text": "' + half + '"}]}')
    assert stream.answer("").text == "😀\N{REPLACEMENT CHARACTER}"
