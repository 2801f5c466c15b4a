"""The official Python client against a real server: what it asks is answered, what goes wrong is its own exception."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from server_process import REVISIONS, ServerProcess, ready, series, wait_for

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "rev(planet)="}]
ANSWER = "tenalp"
SLOW: dict[str, object] = {"fault": "hang:1", "allow_faults": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ready(REVISIONS / "r2", tmp_path_factory.mktemp("server") / "log", ui=0) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as asking:
        yield asking


def test_it_finds_the_model(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object) == ("arithmetic", "model")
    assert model.model_dump()["root"] == "arithmetic"
    assert model.model_dump()["max_model_len"] == 1024
    assert client.models.retrieve("arithmetic") == model


def test_it_completes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="arithmetic", prompt="rev(planet)=")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (ANSWER, "stop")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(ANSWER) + 1


def test_it_chats_and_can_go_on_with_what_it_got(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="arithmetic", messages=QUESTION)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (ANSWER, "stop")
    turns = [*QUESTION, answer.choices[0].message, *QUESTION]
    again = client.chat.completions.create(model="arithmetic", messages=turns)  # type: ignore[arg-type]
    assert again.usage is not None
    assert answer.usage is not None
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


def test_it_streams_completions_with_usage_in_the_last_event(client: openai.OpenAI) -> None:
    *pieces, last = client.completions.create(model="arithmetic", prompt="rev(planet)=", stream=True)
    assert "".join(piece.choices[0].text for piece in [*pieces, last]) == ANSWER
    assert last.choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.total_tokens == len("rev(planet)=") + len(ANSWER) + 1


def test_it_streams_chats_with_usage_after_the_last_choice(client: openai.OpenAI) -> None:
    *pieces, usage = client.chat.completions.create(
        model="arithmetic", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == ANSWER
    assert all(piece.usage is None for piece in pieces)
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(ANSWER) + 1


def test_its_own_reader_of_streams_puts_a_chat_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="arithmetic", messages=QUESTION) as stream:
        whole = stream.get_final_completion()
    assert whole.choices[0].message.content == ANSWER


def test_its_asynchronous_half_does_all_of_it_at_once(server: ServerProcess) -> None:
    async def whole(asking: openai.AsyncOpenAI) -> str:
        answer = await asking.chat.completions.create(model="arithmetic", messages=QUESTION)
        return answer.choices[0].message.content or ""

    async def streamed(asking: openai.AsyncOpenAI) -> str:
        stream = await asking.chat.completions.create(model="arithmetic", messages=QUESTION, stream=True)
        return "".join([piece.choices[0].delta.content or "" async for piece in stream])

    async def completed(asking: openai.AsyncOpenAI) -> str:
        stream = await asking.completions.create(model="arithmetic", prompt="rev(planet)=", stream=True)
        return "".join([piece.choices[0].text async for piece in stream])

    async def all_at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as asking:
            return await asyncio.gather(*(ask(asking) for ask in [whole, streamed, completed] * 4))

    assert asyncio.run(all_at_once()) == [ANSWER] * 12


def test_log_probabilities_of_an_answer_are_those_of_the_same_text_echoed(client: openai.OpenAI) -> None:
    prompt = "rev(planet)="
    chat = client.chat.completions.create(model="arithmetic", messages=QUESTION, logprobs=True, top_logprobs=2)
    legacy = client.completions.create(model="arithmetic", prompt=prompt, logprobs=2)
    echoed = client.completions.create(model="arithmetic", prompt=prompt + ANSWER, logprobs=2, echo=True, max_tokens=0)
    said = chat.model_dump()["choices"][0]["logprobs"]["content"]
    listed = legacy.model_dump()["choices"][0]["logprobs"]
    truth = echoed.model_dump()["choices"][0]["logprobs"]["token_logprobs"][len(prompt) :]
    assert listed["tokens"][:-1] == [one["token"] for one in said][:-1] == list(ANSWER)
    assert listed["token_logprobs"][:-1] == pytest.approx(truth, abs=1e-4)
    assert [one["logprob"] for one in said][:-1] == pytest.approx(truth, abs=1e-4)
    assert len(listed["tokens"]) == len(said) == len(ANSWER) + 1, "the token that ends the answer is one, too"
    assert listed["text_offset"] == [*range(len(ANSWER) + 1)]
    assert all(len(one["top_logprobs"]) == 2 for one in said)


def test_a_stop_string_cuts_the_text_and_not_the_list_of_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="arithmetic", prompt="rev(planet)=", stop="al", logprobs=0)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("ten", "stop")
    assert answer.model_dump()["choices"][0]["logprobs"]["tokens"] == list("tenal")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_a_wrong_parameter_is_a_bad_request_that_names_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="arithmetic", messages=QUESTION, n=2)
    assert (wrong.value.param, wrong.value.code) == ("n", "invalid_value")
    with pytest.raises(openai.BadRequestError) as streamed:
        client.chat.completions.create(model="arithmetic", messages=QUESTION, logprobs=True, stream=True)
    assert streamed.value.param == "logprobs"


def test_more_than_the_context_is_a_bad_request_with_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"1024 tokens.*2012 tokens") as wrong:
        client.chat.completions.create(model="arithmetic", messages=QUESTION, max_completion_tokens=2000)
    assert wrong.value.code == "context_length_exceeded"


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other/model", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/model")


def test_too_long_a_body_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.completions.create(model="arithmetic", prompt="1" * 4_000_000)
    assert (refused.value.status_code, refused.value.code) == (413, "too_large")


@pytest.mark.slow
def test_a_full_queue_and_a_passed_deadline_are_the_clients_own_exceptions(tmp_path: Path) -> None:
    settings = SLOW | {"max_requests_per_batch": 1, "max_queue": 0, "request_deadline_seconds": 3, "ui": 0}
    with (
        ready(REVISIONS / "r2", tmp_path / "log", **settings) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        hanging: list[openai.APIStatusError] = []

        def hang() -> None:
            try:
                client.chat.completions.create(model="arithmetic", messages=QUESTION)
            except openai.APIStatusError as error:
                hanging.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        wait_for(lambda: series(server.metrics(), "serving_requests_running") == 1, 10)
        with pytest.raises(openai.RateLimitError) as full:
            client.chat.completions.create(model="arithmetic", messages=QUESTION)
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="arithmetic", prompt="1+1=", stream=True)
        predicted = server.client.post("/predict", json={"prompt": "1+1="})
        thread.join()
        assert (full.value.code, full.value.response.headers["retry-after"]) == ("queue_full", "1")
        assert (predicted.status_code, predicted.headers["retry-after"]) == (429, "1")
        (late,) = hanging
        assert (type(late), late.status_code, late.code) == (openai.InternalServerError, 504, "deadline_exceeded")


@pytest.mark.slow
def test_a_server_that_shuts_down_is_a_server_error(tmp_path: Path) -> None:
    with (
        ready(
            REVISIONS / "r2", tmp_path / "log", drain_delay_seconds=0, drain_deadline_seconds=8, ui=0, **SLOW
        ) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        hanging = threading.Thread(target=server.complete, args=["1+1="])
        hanging.start()
        wait_for(lambda: series(server.metrics(), "serving_requests_running") == 1, 10)
        server.terminate()
        wait_for(lambda: "draining" in server.log.read_text(), 10)
        wait_for(lambda: server.complete("1+1=").status_code == 503, 10)
        with pytest.raises(openai.InternalServerError) as closed:
            client.chat.completions.create(model="arithmetic", messages=QUESTION)
        assert (closed.value.status_code, closed.value.code) == (503, "draining")
        hanging.join()
