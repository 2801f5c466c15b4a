"""Chats: what the model reads of the messages, what of its answer is reasoning, and what a stream of it looks like."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hand_driven import HandEngine, HandService, on_a_loop
from hand_http import client
from server_process import REVISIONS, events, series

from arithmetic.checkpoint import encode
from serving.api import create_app
from serving.ask import Ask
from serving.chat_template import render, special_tokens
from serving.engine import Progress, Sampling
from serving.errors import BadRequest
from serving.outcome import Outcome
from serving.service import Phase

QUESTION = [{"role": "user", "content": "1+1="}]
PLAIN = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
THINKING = PLAIN + "{% if add_generation_prompt %}<think>{{ '\\n' }}{% endif %}"
REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}" + PLAIN


class SayingEngine(HandEngine):
    """Says one thing to everybody, character by character, and notes what it was asked."""

    def __init__(self, template: str | dict[str, str] | None, text: str) -> None:
        super().__init__()
        self.chat_template = template
        self.text = text
        self.prompts: list[str] = []
        self.max_tokens: list[int] = []
        self.fails_after: int | None = None

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        super().submit(request_id, prompt, max_tokens, sampling, deliver)
        self.prompts.append(self.tokenizer.decode(prompt, skip_special_tokens=False))
        self.max_tokens.append(max_tokens)
        said = encode(self.text)[:max_tokens]
        asyncio.get_running_loop().call_soon(self._say, request_id, said, 1, len(said) < max_tokens)

    def _say(self, request_id: str, said: list[int], count: int, eos: bool) -> None:
        if request_id not in self.requests:
            return
        error = "out of memory" if count == self.fails_after else None
        finished = error is not None or count == len(said)
        deliver = self.requests.pop(request_id) if finished else self.requests[request_id]
        deliver(Progress(said[:count], finished, eos, error))
        if not finished:
            asyncio.get_running_loop().call_soon(self._say, request_id, said, count + 1, eos)


def saying(text: str, template: str | dict[str, str] | None = PLAIN, **settings: object) -> HandService:
    service = HandService("", Random(0), **settings)
    service.engine = service.hand = SayingEngine(template, text)
    return service


def asked(service: HandService, path: str = "/v1/chat/completions", **body: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(create_app(service)) as asking:
            return await asking.post(path, json=body)

    return asyncio.run(ask())


def chat(service: HandService, **parameters: object) -> httpx.Response:
    return asked(service, **{"messages": QUESTION} | parameters)


def prompts(service: HandService) -> list[str]:
    assert isinstance(service.hand, SayingEngine)
    return service.hand.prompts


def test_a_chat_has_openais_shape() -> None:
    answer = chat(saying("2"), temperature=0).json()
    assert (answer["object"], answer["model"], answer["id"][:9]) == ("chat.completion", "model", "chatcmpl-")
    message = {"role": "assistant", "content": "2", "refusal": None}
    assert answer["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    prompt_tokens = len("[user]1+1=")
    assert answer["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 1,
        "total_tokens": prompt_tokens + 1,
    }


def test_the_model_reads_what_its_template_makes_of_the_messages_and_nothing_else() -> None:
    service = saying("2")
    turns = [("system", "Be brief."), ("user", "1+1="), ("assistant", "2"), ("user", "2+2=")]
    chat(service, messages=[{"role": role, "content": content} for role, content in turns])
    chat(service)
    assert prompts(service) == ["[system]Be brief.[user]1+1=[assistant]2[user]2+2=", "[user]1+1="]


def test_a_messages_text_may_come_in_parts() -> None:
    service = saying("2")
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "1="}]
    chat(service, messages=[{"role": "user", "content": parts}])
    assert prompts(service) == ["[user]1+1="]


def test_an_answer_can_be_given_back_as_a_message() -> None:
    service = saying("so</think>2", THINKING)
    message = chat(service).json()["choices"][0]["message"]
    assert chat(service, messages=[*QUESTION, message, *QUESTION]).status_code == 200
    assert prompts(service)[1] == "[user]1+1=[assistant]2[user]1+1=<think>\n"


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("one and one </think> 2", "one and one", "2"),
        ("<think>hm</think>2", "hm", "2"),
        ("hm, one and", "hm, one and", ""),
    ],
)
def test_an_answer_to_an_opened_think_is_reasoning_up_to_its_end(text: str, reasoning: str, content: str) -> None:
    message = chat(saying(text, THINKING)).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (reasoning, content)
    streamed = events(chat(saying(text, THINKING), stream=True).text)
    assert together(streamed, "reasoning_content") == reasoning
    assert together(streamed, "content") == content


def test_an_answer_cut_while_it_thinks_has_no_content_and_says_length() -> None:
    choice = chat(saying("one and one</think>2", THINKING), max_tokens=5).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("", "one a")


def test_without_thinking_everything_is_content() -> None:
    message = chat(saying("2</think>3")).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "2</think>3", "refusal": None}


def test_completions_and_predict_give_thinking_as_it_is() -> None:
    text = "one</think>2"
    completion = asked(saying(text, THINKING), "/v1/completions", prompt="1+1=<think>", max_tokens=16).json()
    prediction = asked(saying(text, THINKING), "/predict", prompt="1+1=<think>").json()
    assert completion["choices"][0]["text"] == prediction["response"] == text


def together(streamed: list[Any], part: str) -> str:
    return "".join(choice["delta"].get(part) or "" for event in streamed if event for choice in event["choices"])


def test_a_streamed_chat_is_deltas_and_the_first_one_has_the_role() -> None:
    first, *others, done = events(chat(saying("46"), stream=True).text)
    assert done is None
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in event["choices"][0]["delta"] for event in others)
    assert others[-1]["choices"][0]["finish_reason"] == "stop"
    assert together([first, *others], "content") == "46"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_usage_comes_in_the_last_event_or_as_openai_does_it_or_not_at_all(path: str) -> None:
    def usages(**options: object) -> list[tuple[int, object]]:
        body = {"messages": QUESTION} if "chat" in path else {"prompt": "1+1="}
        response = asked(saying("46"), path, stream=True, **body, **options)
        *chunks, done = events(response.text)
        assert done is None
        return [(len(chunk["choices"]), chunk.get("usage", "absent")) for chunk in chunks]

    (*_, beside) = unasked = usages()
    assert (beside[0], beside[1]["completion_tokens"]) == (1, 2)  # type: ignore[index]
    assert [usage for _, usage in unasked[:-1]] == ["absent"] * (len(unasked) - 1)
    *without, after = usages(stream_options={"include_usage": True})
    assert after == (0, beside[1])
    assert set(without) == {(1, None)}
    assert {usage for _, usage in usages(stream_options={"include_usage": False})} == {"absent"}


def test_without_max_tokens_an_answer_may_have_what_the_server_gives_and_the_context_holds() -> None:
    ample, tight = saying("2", max_new_tokens=100), saying("2", max_new_tokens=5000)
    for service in (ample, tight):
        chat(service)
        asked(service, "/predict", prompt="[user]1+1=")
    assert [service.hand.max_tokens for service in (ample, tight)] == [  # type: ignore[attr-defined]
        [100, 100],
        [1024 - 10, 1024 - 10],
    ]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_has_two_names(name: str) -> None:
    assert chat(saying("4667"), **{name: 2}).json()["choices"][0]["message"]["content"] == "46"


def test_a_model_without_a_template_says_so() -> None:
    for template in (None, {"tool_use": PLAIN}):
        service = saying("2", template)
        response = chat(service)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "no_chat_template")
        assert "/v1/completions" in response.json()["error"]["message"]
        refused = {"traffic": "user", "code": "no_chat_template"}
        assert series(service.metrics_text(), "serving_requests_refused_total", **refused) == 1


def test_of_several_templates_the_default_is_taken() -> None:
    service = saying("2", {"default": PLAIN, "tool_use": THINKING})
    chat(service)
    assert prompts(service) == ["[user]1+1="]


def test_messages_that_the_template_refuses_are_named_with_its_reason() -> None:
    response = chat(saying("2", REFUSING), messages=[{"role": "system", "content": "x"}, *QUESTION])
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "messages")
    assert error["message"].startswith("messages: ")
    assert "no system prompt" in error["message"]


def test_a_template_calls_special_tokens_by_name_and_cannot_leave_its_sandbox(tmp_path: Path) -> None:
    marks = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "pad_token": None, "extra": "x"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(marks))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>", "eos_token": "old"}))
    tokens = special_tokens(tmp_path)
    assert tokens == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    assert render("{{ bos_token }}" + PLAIN + "{{ eos_token }}", QUESTION, tokens) == "<s>[user]1+1=</s>"
    with pytest.raises(BadRequest, match="unsafe"):
        render("{{ messages.__class__.__mro__ }}", QUESTION, {})


def test_the_prompt_is_what_transformers_makes_of_it() -> None:
    from transformers import AutoTokenizer

    directory = REVISIONS / "r2"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = "{{ bos_token }}{{ eos_token }}" + THINKING
    expected = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer.chat_template, QUESTION, special_tokens(directory)) == expected


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("messages", []),
        ("messages", "hello"),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user", "content": "x", "name": "me"}]),
        ("max_tokens", 0),
        ("max_completion_tokens", 0),
        ("n", 2),
        ("top_logprobs", 21),
        ("top_logprobs", 2),
        ("seed", "x"),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("store", True),
        ("frequency_penalty", 1),
        ("reasoning_effort", "high"),
        ("echo", True),
        ("prompt", "1+1="),
    ],
)
def test_a_wrong_or_unsupported_parameter_is_named(parameter: str, value: object) -> None:
    service = saying("2")
    response = chat(service, temperature=1, **{parameter: value})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, parameter, "invalid_request_error")
    assert error["message"].startswith(parameter)
    assert prompts(service) == []


def test_messages_without_any_text_are_refused() -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    response = chat(saying("2", template), messages=[{"role": "user", "content": ""}])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


def test_parameters_that_ask_for_nothing_are_taken() -> None:
    nothing: dict[str, object] = {
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "store": False,
        "service_tier": "auto",
        "metadata": {"team": "a"},
        "parallel_tool_calls": True,
        "user": "me",
        "stream_options": None,
    }
    assert chat(saying("2"), **nothing).status_code == 200
    assert chat(saying("2"), **dict.fromkeys(nothing)).status_code == 200
    legacy = {"best_of": 1, "suffix": None, "logit_bias": None, "presence_penalty": 0, "echo": False}
    assert asked(saying("2"), "/v1/completions", prompt="1+1=", **legacy).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/predict"])
def test_every_interface_takes_a_seed(path: str) -> None:
    body: dict[str, object] = {"messages": QUESTION} if "chat" in path else {"prompt": "1+1="}
    assert asked(saying("2"), path, seed=7, temperature=1, **body).status_code == 200
    assert asked(saying("2"), path, seed=0.5, temperature=1, **body).json()["error"]["param"] == "seed"


def test_a_stream_that_fails_ends_with_an_error_event_and_not_as_if_complete() -> None:
    service = saying("4667")
    assert isinstance(service.hand, SayingEngine)
    service.hand.fails_after = 2
    first, *_, last = events(chat(service, stream=True).text)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["error"]["code"] == "generation_failed"
    whole = chat(service)
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "generation_failed")


def test_refused_chats_count_as_chats() -> None:
    outcomes: list[Outcome] = []
    service = HandService("", Random(0), listeners=[outcomes.append])
    chat(service)
    chat(service, messages=[])
    asked(service, "/predict", prompt="")
    told = [(outcome.arrival.interface, outcome.reason, outcome.code) for outcome in outcomes]
    assert told == [
        ("chat", "refused", "no_chat_template"),
        ("chat", "refused", "invalid_value"),
        ("predict", "refused", "invalid_value"),
    ]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/predict"])
def test_a_server_that_loads_or_shuts_down_refuses_and_says_why(path: str) -> None:
    body: dict[str, object] = {"messages": QUESTION} if "chat" in path else {"prompt": "1+1="}
    loading, leaving = saying("2"), saying("2")
    loading.engine, loading.phase = None, Phase.LOADING
    leaving.phase = Phase.REFUSING
    for service, code in ((loading, "loading"), (leaving, "draining")):
        response = asked(service, path, **body)
        assert (response.status_code, response.json()["error"]["code"]) == (503, code)
    assert asked(leaving, path, **body).headers["connection"] == "close"


@on_a_loop
async def test_others_are_served_while_a_long_prompt_is_encoded() -> None:
    service, turns = saying("2"), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    serving = asyncio.create_task(others())
    long = Ask("1+1=" * 10_000, special_tokens=False)
    prompt = await service.encode(long)
    serving.cancel()
    assert turns > 1
    assert prompt.ids == service.hand.tokenizer.encode(long.prompt, add_special_tokens=False).ids


REASONING_MODELS = (
    "{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<User>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<Assistant>' + content + eos_token}}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<Assistant><think>\\n'}}{% endif %}"
)
"""As DeepSeek's distilled models have it, but for tools."""


def test_a_reasoning_models_template_forgets_old_thoughts_and_begins_a_new_one() -> None:
    turns = [*QUESTION, {"role": "assistant", "content": "one and one</think>2"}, *QUESTION]
    rendered = render(REASONING_MODELS, turns, {"bos_token": "<s>", "eos_token": "</s>"})
    assert rendered == "<s><User>1+1=<Assistant>2</s><User>1+1=<Assistant><think>\n"


class BrokenEngine(SayingEngine):
    """Has a bug."""

    def submit(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("the weights are in /secret")


def test_a_bug_is_told_in_the_shape_of_errors_and_without_its_inside() -> None:
    service = saying("2")
    service.engine = service.hand = BrokenEngine(PLAIN, "2")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as asking:
            return await asking.post("/predict", json={"prompt": "1+1="})

    response = asyncio.run(ask())
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text
