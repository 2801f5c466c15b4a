"""The HTTP interface of a real server: shapes, refusals, metrics, and answers that are those of plain `generate`."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from server_process import REVISIONS, ServerProcess, events, listening, ready, series

from arithmetic.checkpoint import CHAT_TEMPLATE, load
from arithmetic.prompts import Prompt, prompt_set
from arithmetic.scoring import answers
from serving.model_dir import tokenizer_digest

R2 = REVISIONS / "r2"
FEW = prompt_set()[::25]
EXAMPLES = "12+34=46\nrev(stream)=maerts\nmax(17,230)=230\n88-91=-3\n" * 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ready(R2, tmp_path_factory.mktemp("server") / "log") as process:
        yield process


async def complete_all(url: str, prompts: list[Prompt], concurrency: int) -> list[httpx.Response]:
    limit = asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def complete(prompt: Prompt) -> httpx.Response:
            body = {"prompt": prompt["prompt"], "max_tokens": prompt["max_tokens"], "temperature": 0}
            async with limit:
                return await client.post("/v1/completions", json=body)

        return await asyncio.gather(*map(complete, prompts))


def test_a_completion_has_openais_shape(server: ServerProcess) -> None:
    answer = server.complete("12+34=", max_tokens=8).json()
    assert answer["object"] == "text_completion"
    assert answer["model"] == "arithmetic"
    assert answer["choices"] == [{"index": 0, "text": "46", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}


def test_max_tokens_cuts_the_answer(server: ServerProcess) -> None:
    answer = server.complete("rev(planet)=", max_tokens=2).json()
    assert answer["choices"][0]["text"] == "te"
    assert answer["choices"][0]["finish_reason"] == "length"


def test_greedy_answers_equal_plain_generate_alone_and_at_concurrency(server: ServerProcess) -> None:
    torch.set_num_threads(1)
    expected = answers(load(R2), FEW)
    for concurrency in (1, 16):
        responses = asyncio.run(complete_all(server.url, FEW, concurrency))
        assert [response.json()["choices"][0]["text"] for response in responses] == expected


def test_a_long_prompt_is_answered(server: ServerProcess) -> None:
    answer = server.complete(f"{EXAMPLES}max(41,7)=", max_tokens=8).json()
    assert answer["usage"]["prompt_tokens"] > 300
    assert answer["choices"][0]["text"]


def test_a_stream_gives_the_same_text_and_usage_in_its_last_event(server: ServerProcess) -> None:
    whole = server.complete("rev(planet)=", max_tokens=12).json()
    *chunks, last, done = events(server.complete("rev(planet)=", max_tokens=12, stream=True).text)
    assert done is None
    assert "".join(chunk["choices"][0]["text"] for chunk in [*chunks, last]) == whole["choices"][0]["text"] == "tenalp"
    assert all(chunk["choices"][0]["finish_reason"] is None and "usage" not in chunk for chunk in chunks)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == whole["usage"]


def test_a_stop_string_ends_the_answer_before_it(server: ServerProcess) -> None:
    answer = server.complete("rev(planet)=", max_tokens=12, stop=["alp", "zz"]).json()
    assert answer["choices"][0] == {"index": 0, "text": "ten", "logprobs": None, "finish_reason": "stop"}


def test_a_stop_string_is_never_streamed_in_part(server: ServerProcess) -> None:
    chunks = events(server.complete("rev(planet)=", max_tokens=12, stop="nal", stream=True).text)
    texts = [chunk["choices"][0]["text"] for chunk in chunks if chunk]
    assert "".join(texts) == "te"


def test_sampling_is_per_request(server: ServerProcess) -> None:
    prompt = "rev(planet)="
    hot = {server.complete(prompt, max_tokens=8, temperature=2.0).json()["choices"][0]["text"] for _ in range(12)}
    cold = {server.complete(prompt, max_tokens=8, temperature=0).json()["choices"][0]["text"] for _ in range(4)}
    assert cold == {"tenalp"}
    assert len(hot) > 1


def test_a_seed_repeats_a_sampled_answer(server: ServerProcess) -> None:
    def answer(seed: int) -> str:
        said = server.complete("copy(abcdefgh)=", temperature=2, seed=seed, max_tokens=24)
        return str(said.json()["choices"][0]["text"])

    assert answer(7) == answer(7)
    assert len({answer(seed) for seed in range(5)}) > 1


def test_model_info_names_the_weights(server: ServerProcess) -> None:
    info = server.client.get("/model_info").json()
    assert {info["model"], info["revision"], info["version"]} == {"arithmetic", "r2", "v1"}
    assert info["weights_digest"] == sha256((R2 / "model.safetensors").read_bytes())


def test_model_info_states_the_contract(server: ServerProcess) -> None:
    info = server.client.get("/model_info").json()
    assert info["context_tokens"] == 1024
    assert info["dtype"] == "float32"
    assert info["stop_tokens"] == [2]
    assert info["sampling_defaults"] == {"temperature": 0.0, "top_p": 1.0, "do_sample": False}
    assert info["tokenizer"] == tokenizer_digest(R2)
    assert info["chat_template"] == sha256(CHAT_TEMPLATE.encode())


def test_another_process_states_the_same_contract(server: ServerProcess, tmp_path: Path) -> None:
    with listening(R2, tmp_path / "log", fault="slow:2", allow_faults=1) as other:
        before = other.client.get("/model_info").json()
        other.wait_until_ready()
        assert other.client.get("/model_info").json() == server.client.get("/model_info").json()
    served = {"model", "revision", "version"}
    assert {name for name, value in before.items() if value is not None} == served, "nothing is known yet"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_every_response_names_its_version(server: ServerProcess) -> None:
    for response in (server.complete("1+1="), server.complete("1+1=", stream=True), server.complete("")):
        assert response.headers["x-model-version"] == "v1"
        assert response.headers["x-model-revision"] == "r2"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("prompt", ["a", "b"]),
        ("prompt", ""),
        ("max_tokens", 0),
        ("max_tokens", "8"),
        ("temperature", -1),
        ("top_p", 0),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", ""),
        ("n", 2),
        ("echo", True),
        ("logprobs", 6),
        ("logprobs", -1),
        ("seed", "x"),
        ("stream", "yes"),
        ("stream_options", {"include": True}),
        ("best_of", 2),
        ("presence_penalty", 0.5),
        ("logit_bias", {"50256": -100}),
        ("suffix", "."),
        ("top_k", 5),
    ],
)
def test_a_wrong_or_unsupported_parameter_is_named(server: ServerProcess, parameter: str, value: object) -> None:
    response = server.complete(**{"prompt": "1+1="} | {parameter: value})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == parameter
    assert error["message"].startswith(parameter)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("parameter", "parameters"),
    [
        ("echo", {"echo": True, "max_tokens": 0}),
        ("echo", {"echo": True, "logprobs": 0}),
        ("echo", {"echo": True, "logprobs": 1, "max_tokens": 1}),
        ("max_tokens", {"logprobs": 1, "max_tokens": 0}),
        ("stream", {"echo": True, "logprobs": 1, "max_tokens": 0, "stream": True}),
    ],
)
def test_an_impossible_combination_is_refused_with_what_is_possible(
    server: ServerProcess, parameter: str, parameters: dict[str, object]
) -> None:
    response = server.complete("1+1=", **parameters)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, parameter)
    assert "echo is possible only with logprobs (0 to 5) and max_tokens 0, and without stream" in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'])
def test_a_malformed_body_is_refused(server: ServerProcess, body: bytes) -> None:
    response = server.client.post("/v1/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("body:")


def test_another_model_is_not_served(server: ServerProcess) -> None:
    response = server.complete("1+1=", model="other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def test_more_than_the_context_is_refused_with_both_numbers(server: ServerProcess) -> None:
    response = server.complete("1+1=", max_tokens=5000)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "1024" in error["message"]
    assert "5004" in error["message"]


def test_requests_are_counted_by_traffic_class_and_reason(server: ServerProcess) -> None:
    labels = {"revision": "r2", "version": "v1", "traffic": "synthetic", "prompt_class": "129+"}
    long = {"prompt": f"{EXAMPLES}1+1=", "max_tokens": 8}
    for _ in range(3):
        server.client.post("/v1/completions", json=long, headers={"x-sluice-probe": "1"})
    metrics = server.metrics()
    assert series(metrics, "serving_requests_started_total", **labels) == 3
    assert series(metrics, "serving_requests_finished_total", reason="stop", **labels) == 3
    assert series(metrics, "serving_time_to_first_token_seconds_count", **labels) == 3
    assert series(metrics, "serving_request_duration_seconds_count", **labels) == 3
    assert series(metrics, "serving_time_per_output_token_seconds_count", output_class="1-32", **labels) == 3


def test_a_refusal_is_counted_and_not_timed(server: ServerProcess) -> None:
    labels = {"traffic": "synthetic", "prompt_class": "33-128"}
    body = {"prompt": "1" * 40, "max_tokens": 2000}
    server.client.post("/v1/completions", json=body, headers={"x-sluice-probe": "1"})
    assert series(server.metrics(), "serving_requests_finished_total", reason="refused", **labels) == 1
    assert series(server.metrics(), "serving_time_to_first_token_seconds_count", **labels) == 0


def test_every_series_names_revision_and_version(server: ServerProcess) -> None:
    samples = [line for line in server.metrics().splitlines() if not line.startswith("#")]
    assert samples
    assert all('revision="r2"' in line and 'version="v1"' in line for line in samples)


def test_what_started_has_finished_when_nothing_runs(server: ServerProcess) -> None:
    server.complete("1+1=")
    metrics = server.metrics()
    assert series(metrics, "serving_requests_running") == series(metrics, "serving_requests_waiting") == 0
    started = series(metrics, "serving_requests_started_total")
    assert started == series(metrics, "serving_requests_finished_total") > 0


def test_a_prediction_is_the_text_with_why_it_ended(server: ServerProcess) -> None:
    answer = server.client.post("/predict", json={"prompt": "rev(planet)="}).json()
    assert answer == {
        "response": "tenalp",
        "finish_reason": "stop",
        "model": "arithmetic",
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    }
    cut = server.client.post("/predict", json={"prompt": "rev(planet)=", "max_tokens": 2, "temperature": 0}).json()
    assert (cut["response"], cut["finish_reason"]) == ("te", "length")
    refused = server.client.post("/predict", json={"prompt": "1+1=", "stream": True})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


def test_health_is_readiness_under_another_name(server: ServerProcess) -> None:
    assert server.client.get("/health").json() == server.client.get("/readyz").json() == {"status": "ok"}


def test_what_is_not_there_is_said_in_the_shape_of_errors(server: ServerProcess) -> None:
    missing, method = server.client.get("/v2/models"), server.client.get("/v1/completions")
    assert (missing.status_code, method.status_code) == (404, 405)
    assert {response.json()["error"]["code"] for response in (missing, method)} == {"no_route"}


def test_the_openapi_document_describes_every_body(server: ServerProcess) -> None:
    document = server.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, name in [("/v1/completions", "CompletionRequest"), ("/v1/chat/completions", "ChatRequest")]:
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
        assert "temperature" in schemas[name]["properties"]
    assert {"Message", "StreamOptions", "PredictRequest"} <= schemas.keys()
