"""What a real server lets be seen of a request: its span, its line, its numbers, and nothing without the key."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from otlp_receiver import Receiver, plain, receiving
from server_process import REVISIONS, START_SECONDS, ServerProcess, environment, ready, series, spawn

KEY = "sk-open-sesame"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("observed")
    key = folder / "key"
    key.write_text(f"{KEY}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        with ready(REVISIONS / "r2", folder / "log", api_key_file=key, ui=0) as server:
            yield server


def ask(server: ServerProcess, key: str = KEY, **headers: str) -> httpx.Response:
    body = {"prompt": "12+34=", "max_tokens": 8}
    return server.client.post("/v1/completions", json=body, headers={"authorization": f"Bearer {key}"} | headers)


def lines(server: ServerProcess) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def test_without_the_key_there_is_no_answer_but_probes_and_metrics_are_open(server: ServerProcess) -> None:
    refused = ask(server, "sk-wrong")
    assert (refused.status_code, refused.headers["x-model-revision"]) == (401, "r2")
    assert server.client.get("/v1/models").status_code == 401
    assert series(server.metrics(), "serving_requests_refused_total", code="invalid_api_key") == 1
    assert KEY not in server.log.read_text()


def test_the_openai_client_gets_its_answer_with_the_key(server: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as asking:
        answer = asking.completions.create(model="arithmetic", prompt="12+34=", max_tokens=8)
        assert answer.choices[0].text == "46"


def test_a_request_leaves_a_line_with_its_trace_and_without_its_text(server: ServerProcess) -> None:
    answer = ask(server, **{"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "r-1"}).json()
    (line,) = [line for line in lines(server) if line["request_id"] == "r-1"]
    assert (line["trace_id"], line["revision"], line["reason"]) == (TRACE, "r2", "stop")
    assert answer["id"] == f"cmpl-{line['id']}"
    assert "12+34=" not in server.log.read_text()


def test_a_server_that_stops_has_sent_its_last_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        with ready(REVISIONS / "r2", tmp_path / "log", ui=0) as server:
            trace_parent = ask(server, b3=f"{TRACE}-{SPAN}").headers["b3"]
            assert receiver.spans == []
        span = receiver.named("text_completion arithmetic")
    assert trace_parent == f"{TRACE}-{span.span_id.hex()}-1-{SPAN}"
    assert {span.name for span in receiver.spans} == {span.name, "queue", "prefill", "decode"}
    assert plain(span.attributes)["gen_ai.usage.output_tokens"] == 3
    assert receiver.resources[0]["service.name"] == "arithmetic"


@pytest.mark.parametrize(
    ("settings", "endpoint", "message"),
    [
        ({"api_key": KEY, "api_key_file": "/none"}, "", "both set"),
        ({"api_key_file": "/none"}, "", "SERVING_API_KEY_FILE=/none"),
        ({}, "collector:4317", "OTEL_EXPORTER_OTLP_ENDPOINT='collector:4317'"),
    ],
)
def test_a_wrong_key_file_or_endpoint_ends_the_start(
    tmp_path: Path, settings: dict[str, str], endpoint: str, message: str
) -> None:
    variables = environment(REVISIONS / "r2", **settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    process = spawn(variables, tmp_path / "log")
    try:
        assert process.wait(START_SECONDS) == 2
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert message in line
    assert KEY not in line
