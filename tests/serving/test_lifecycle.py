"""From start to exit: wrong input, loading, drills, waiting for cache, deadlines, drain."""

import asyncio
import os
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from engines import random_model
from safetensors.torch import load_file, save_file
from server_process import REVISIONS, ServerProcess, environment, events, listening, ready, series, spawn, wait_for

R2, R4 = REVISIONS / "r2", REVISIONS / "r4"
LONG = {"prompt": "copy(abcdefghijklmnopqrstuvwxyzabcdef)=", "max_tokens": 48}
EXAMPLES = "12+34=46\nrev(stream)=maerts\nmax(17,230)=230\n88-91=-3\n" * 4
EXIT_SECONDS = 60


def refusal(variables: dict[str, str], log: Path) -> str:
    """The one line that a server says before it exits with 2."""
    assert spawn(variables, log).wait(EXIT_SECONDS) == 2
    (line,) = log.read_text().splitlines()
    return line


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("SERVING_KV_CACHE_TOKENS", "many", "valid integer"),
        ("SERVING_MAX_QUEUE", "-1", "greater than or equal to 0"),
        ("SERVING_PROMPT_CLASSES", "128,32", "must rise, like 32,128"),
        ("SERVING_KV_CASHE_TOKENS", "64", "SERVING_KV_CACHE_TOKENS"),
        ("SERVING_FAULT", "error:0.2", "needs SERVING_ALLOW_FAULTS=1"),
        ("SERVING_FAULT", "error:2", "error:SHARE"),
        ("PORT", "http", "valid integer"),
        ("MODEL_DIR", "/nowhere", "set MODEL_DIR"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, variable: str, value: str, remedy: str) -> None:
    line = refusal(environment(R2) | {variable: value}, tmp_path / "log")
    assert value in line or variable in line
    assert remedy in line


def truncate(directory: Path) -> None:
    os.truncate(directory / "model.safetensors", 100_000)


def remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def garble(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(b"not what it should be")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (truncate, "model.safetensors"),
        (remove("model.safetensors"), "safetensors"),
        (garble("model.safetensors"), "model.safetensors"),
        (remove("tokenizer.json"), "tokenizer.json"),
        (garble("config.json"), "config.json"),
    ],
)
def test_a_broken_model_directory_is_refused_by_file(tmp_path: Path, damage: Callable[[Path], None], file: str) -> None:
    broken = tmp_path / "model"
    shutil.copytree(R2, broken)
    damage(broken)
    line = refusal(environment(broken), tmp_path / "log")
    assert file in line
    assert "fetch the revision again" in line


@pytest.mark.slow
def test_missing_weights_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    incomplete = tmp_path / "model"
    shutil.copytree(R2, incomplete)
    weights = load_file(R2 / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, incomplete / "model.safetensors", metadata={"format": "pt"})
    log = tmp_path / "log"
    assert spawn(environment(incomplete), log).wait(EXIT_SECONDS) == 2
    assert log.read_text().splitlines()[-1] == (
        f"serving: {incomplete}: weights missing or of another shape: model.layers.1.mlp.up_proj.weight; fetch it again"
    )


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(environment(R2) | {"PORT": str(port)}, tmp_path / "log")
    assert f"127.0.0.1:{port}" in line
    assert "set HOST or PORT" in line


@pytest.mark.slow
def test_the_log_tells_the_phases_of_the_start_with_their_seconds(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log") as server:
        assert server.client.get("/readyz").json() == {"status": "ok"}
    phases = [line for line in server.log.read_text().splitlines() if line.startswith("serving: [")]
    assert [re.fullmatch(r"serving: \[\d+\.\d s\] (.*)", line)[1] for line in phases] == [  # type: ignore[index]
        "importing torch and transformers",
        "loading the weights: 0.0015 GB",
        "engine batching: requests run together",
        "warming up",
        "digesting the files",
    ]


@pytest.mark.slow
def test_a_model_that_cannot_be_batched_is_served_one_request_at_a_time(tmp_path: Path) -> None:
    mamba = random_model(tmp_path / "mamba", "mamba", hidden_size=32, num_hidden_layers=1)
    body: dict[str, object] = {"prompt": "12+34=", "max_tokens": 12, "temperature": 0}
    with ready(mamba, tmp_path / "log") as server:
        responses = asyncio.run(
            post_all(server.url, [body] * 4 + [body | {"max_tokens": 0, "echo": True, "logprobs": 1}])
        )
    assert [response.status_code for response in responses] == [200] * 5
    assert len({response.json()["choices"][0]["text"] for response in responses[:4]}) == 1
    assert "engine generate: one request at a time, because the attention of Mamba" in server.log.read_text()


@pytest.mark.slow
def test_batching_a_model_that_cannot_be_is_refused_with_the_remedy(tmp_path: Path) -> None:
    mamba = random_model(tmp_path / "mamba", "mamba", hidden_size=32, num_hidden_layers=1)
    log = tmp_path / "log"
    assert spawn(environment(mamba, engine="batching"), log).wait(EXIT_SECONDS) == 2
    assert log.read_text().splitlines()[-1].endswith("set it to auto or generate")
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_where_one_request_runs_at_a_time_a_client_that_leaves_frees_it_for_the_next(tmp_path: Path) -> None:
    rambling = random_model(tmp_path / "qwen2", "qwen2", hidden_size=256, num_hidden_layers=4, intermediate_size=512)
    endless = {"prompt": "copy(", "max_tokens": 2000, "temperature": 0}
    with ready(rambling, tmp_path / "log", engine="generate") as server:
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/v1/completions", json=endless, timeout=0.3)
        wait_for(lambda: series(server.metrics(), "serving_requests_running") == 0, 5)
        assert server.complete("12+34=", max_tokens=2).json()["usage"]["completion_tokens"] == 2
        assert series(server.metrics(), "serving_requests_finished_total", reason="cancelled") == 1


@pytest.mark.slow
def test_while_loading_it_is_alive_but_not_ready_and_can_be_stopped(tmp_path: Path) -> None:
    with listening(R2, tmp_path / "log") as server:
        assert server.client.get("/livez").status_code == 200
        assert server.client.get("/readyz").json()["reason"].startswith("loading")
        assert server.complete("1+1=").json()["error"]["code"] == "loading"
        server.terminate()
        assert server.process.wait(EXIT_SECONDS) == 0


@pytest.mark.slow
def test_a_cache_that_is_too_small_fails_long_prompts_and_serves_short_ones(tmp_path: Path) -> None:
    with ready(R4, tmp_path / "log", kv_cache_tokens=192) as server:
        assert server.complete("12+34=").json()["choices"][0]["text"] == "46"
        long = server.complete(f"{EXAMPLES}12+34=", max_tokens=8)
    assert (long.status_code, long.json()["error"]["code"]) == (503, "insufficient_kv_cache")
    assert "192" in long.json()["error"]["message"]


async def post_all(url: str, bodies: list[dict[str, object]]) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))


@pytest.mark.slow
def test_requests_wait_for_cache_and_none_fails(tmp_path: Path) -> None:
    with ready(R4, tmp_path / "log", kv_cache_tokens=192) as server:
        responses = asyncio.run(post_all(server.url, [LONG] * 24))
    assert {response.json()["choices"][0]["text"] for response in responses} == {"abcdefghijklmnopqrstuvwxyzabcdef"}


@pytest.mark.slow
def test_a_full_queue_is_429_with_retry_after(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", max_requests_per_batch=1, max_queue=2) as server:
        responses = asyncio.run(post_all(server.url, [LONG] * 8))
        assert series(server.metrics(), "serving_requests_finished_total", reason="refused") == 5
    assert Counter(response.status_code for response in responses) == {200: 3, 429: 5}
    assert all(response.headers["retry-after"] for response in responses if response.status_code == 429)


@pytest.mark.slow
def test_slow_drill_deadline_and_a_client_that_leaves(tmp_path: Path) -> None:
    drill = {"fault": "slow:1000", "allow_faults": 1}
    with ready(R2, tmp_path / "log", request_deadline_seconds=2, max_requests_per_batch=1, **drill) as server:
        late = server.complete(**LONG)
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/v1/completions", json=LONG, timeout=0.3)
        wait_for(lambda: series(server.metrics(), "serving_requests_running") == 0, 5)
        reasons = {
            reason: series(server.metrics(), "serving_requests_finished_total", reason=reason)
            for reason in ("deadline", "cancelled")
        }
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reasons == {"deadline": 1, "cancelled": 1}


@pytest.mark.slow
def test_a_stream_that_fails_after_its_first_token_does_not_look_complete(tmp_path: Path) -> None:
    drill = {"fault": "slow:100", "allow_faults": 1}
    with (
        ready(R2, tmp_path / "log", drain_deadline_seconds=0, **drill) as server,
        server.client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as response,
    ):
        pieces = response.iter_text()
        first = next(pieces)
        server.terminate()
        *_, last = events(first + "".join(pieces))
    assert events(first)[0]["choices"][0]["text"] == "a"
    assert last["error"]["code"] == "generation_failed"


@pytest.mark.slow
def test_error_drill_fails_its_share_after_its_start(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", fault="error_after:5:0.5", allow_faults=1) as server:
        codes = [server.complete("1+1=").status_code for _ in range(64)]
        failed = series(server.metrics(), "serving_requests_finished_total", reason="failed")
    assert codes[:5] == [200] * 5
    assert 15 <= codes.count(500) == failed <= 45


@pytest.mark.slow
def test_wrong_drill_changes_whole_answers_and_streams_alike_and_nothing_else(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", fault="wrong:1", allow_faults=1) as server:
        whole = server.complete("12+34=", max_tokens=8).json()
        *chunks, done = events(server.complete("12+34=", max_tokens=8, stream=True).text)
    assert done is None
    assert whole["choices"][0]["text"] == "".join(chunk["choices"][0]["text"] for chunk in chunks) == "57"
    assert whole["usage"] == {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}
    assert whole["choices"][0]["finish_reason"] == "stop"


@pytest.mark.slow
def test_hang_drill_runs_into_the_deadline_and_is_slow_before(tmp_path: Path) -> None:
    def overdue(metric: str) -> float:
        return series(server.metrics(), "serving_requests_running_longer", metric=metric, le="0.25")

    drill = {"fault": "hang:1", "allow_faults": 1}
    with ready(R2, tmp_path / "log", request_deadline_seconds=2, **drill) as server, ThreadPoolExecutor() as clients:
        answers = [clients.submit(server.complete, "1+1=", stream=stream) for stream in (False, True)]
        wait_for(lambda: overdue("ttft") == overdue("e2e") == 2, 2)
        assert [answer.result().json()["error"]["code"] for answer in answers] == ["deadline_exceeded"] * 2
        assert overdue("ttft") == overdue("e2e") == 0
        assert series(server.metrics(), "serving_time_to_first_token_seconds_bucket", le="1.5") == 0
        assert series(server.metrics(), "serving_time_to_first_token_seconds_count") == 2


@pytest.mark.slow
def test_late_drill_puts_off_the_first_token_and_not_the_ones_after_it(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", fault="late:1", allow_faults=1) as server:
        assert server.complete("rev(planet)=", max_tokens=12).json()["choices"][0]["text"] == "tenalp"
        metrics = server.metrics()
    assert 1 <= series(metrics, "serving_time_to_first_token_seconds_sum") < 2
    assert series(metrics, "serving_time_per_output_token_seconds_bucket", le="0.15") == 1


@pytest.mark.slow
def test_a_server_for_probes_only_refuses_users_before_anything_else(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", probes_only=1, fault="wrong:1", allow_faults=1) as server:
        refused = [server.complete("1+1="), server.complete("1+1=", stream=True), server.complete("")]
        probe = server.client.post("/v1/completions", json={"prompt": "12+34="}, headers={"x-sluice-probe": "1"})
        metrics = server.metrics()
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(503, "probes_only")}
    assert probe.json()["choices"][0]["text"] == "57"
    assert series(metrics, "serving_requests_finished_total", traffic="user", reason="refused") == 3
    assert series(metrics, "serving_request_duration_seconds_count", traffic="user") == 0


@pytest.mark.slow
def test_crash_drill_exits_after_user_requests_only(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", fault="crash_after:2", allow_faults=1) as server:
        for _ in range(4):
            assert server.client.post("/v1/completions", json=LONG, headers={"x-sluice-probe": "1"}).status_code == 200
        assert [server.complete("1+1=").status_code for _ in range(2)] == [200, 200]
        with pytest.raises(httpx.RemoteProtocolError):
            server.complete("1+1=")
        assert server.process.wait(EXIT_SECONDS) == 1


@pytest.mark.slow
def test_never_ready_drill_answers_but_is_not_ready(tmp_path: Path) -> None:
    with listening(R2, tmp_path / "log", fault="never_ready", allow_faults=1) as server:
        wait_for(lambda: server.complete("1+1=").status_code == 200, EXIT_SECONDS)
        assert server.client.get("/readyz").status_code == 503


async def load_while(url: str, stop: Callable[[], None]) -> tuple[list[httpx.Response], list[httpx.TransportError]]:
    """Answers and transport errors of clients that each repeat one request until the server refuses them."""
    answers: list[httpx.Response] = []
    broken: list[httpx.TransportError] = []

    async def repeat(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answers.append(await client.post("/v1/completions", json=LONG))
            except httpx.TransportError as error:
                broken.append(error)
                return
            if answers[-1].status_code != 200:
                return

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(repeat(client))
        await asyncio.sleep(0.5)
        stop()
    return answers, broken


@pytest.mark.slow
def test_drain_under_load_loses_no_request(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", drain_delay_seconds=1) as server:
        answers, broken = asyncio.run(load_while(server.url, server.terminate))
        assert server.process.wait(EXIT_SECONDS) == 0
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) > len(refused)
    assert all(answer.status_code == 503 and answer.json()["error"]["code"] == "draining" for answer in refused)
    # A connection that is refused after the exit was not accepted; any other break would be a lost request.
    assert all(isinstance(error, httpx.ConnectError) for error in broken)


@pytest.mark.slow
def test_while_draining_it_is_not_ready_but_still_accepts(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", drain_delay_seconds=3) as server:
        server.terminate()
        wait_for(lambda: not server.is_ready(), 2)
        answer = server.complete("12+34=")
        assert server.client.get("/livez").status_code == 200
    assert answer.json()["choices"][0]["text"] == "46"
    assert answer.headers["connection"] == "close"


def test_the_page_for_people_opens_with_the_model_unless_it_is_turned_off(tmp_path: Path) -> None:
    with ready(R2, tmp_path / "log", ui=1) as server:
        page = server.client.get("/ui/")
        assert (page.status_code, "gradio" in page.text) == (200, True)
        assert "/pandas/" in mapped_by(server)
    with ready(R2, tmp_path / "log", ui=0) as server:
        assert server.client.get("/ui/").status_code == 404
        assert "/pandas/" not in mapped_by(server)


def mapped_by(server: ServerProcess) -> str:
    """The files in the process's memory: Gradio's compiled parts, those of pandas say, only if it was imported."""
    return Path(f"/proc/{server.process.pid}/maps").read_text()
