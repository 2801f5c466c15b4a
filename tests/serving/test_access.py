"""With a key configured nobody gets an answer without it, and nobody gets to see it."""

import asyncio
from pathlib import Path

import httpx
import httpx2
import openai
import pytest
from hand_http import answering, ask, client
from server_process import series
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from serving.access import Access, key_of, matches
from serving.api import create_app
from serving.config import ConfigError, Settings
from serving.outcome import Outcome

KEY = "sk-open-sesame"
RIGHT = {"authorization": f"Bearer {KEY}"}


def guarded(**settings: object) -> ASGIApp:
    service = answering(**settings)
    return Access(create_app(service), service, KEY)


def got(path: str, app: ASGIApp | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
    async def get() -> httpx.Response:
        async with client(app or guarded()) as asking:
            return await asking.get(path, headers=headers)

    return asyncio.run(get())


def test_the_right_key_is_let_in() -> None:
    assert asyncio.run(ask(guarded(), RIGHT)).json()["choices"][0]["text"] == "42"


def test_the_schemes_name_may_be_written_in_any_case() -> None:
    assert asyncio.run(ask(guarded(), {"authorization": f"bearer  {KEY}"})).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["", KEY, "Bearer", "Bearer ", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {KEY.upper()}"],
)
def test_without_the_right_key_the_answer_is_401_in_openais_shape(authorization: str) -> None:
    refused = asyncio.run(ask(guarded(version="v7"), {"authorization": authorization}))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    error = refused.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "invalid_api_key")
    assert refused.headers["x-model-version"] == "v7"
    assert KEY not in refused.text + str(refused.headers)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_metrics_need_no_key(path: str) -> None:
    assert got(path).status_code == 200


@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/assets/app.js", "/health"])
def test_the_page_asks_for_the_key_itself(path: str) -> None:
    assert got(path, Access(PlainTextResponse("open"), answering(), KEY)).text == "open"


@pytest.mark.parametrize(
    "path", ["/model_info", "/v1/models", "/uix", "/livezx", "/", "/v1/completions/livez", "/openapi.json"]
)
def test_everything_else_needs_it(path: str) -> None:
    app = Access(PlainTextResponse("open"), answering(), KEY)
    assert got(path, app).status_code == 401
    assert got(path, app, RIGHT).text == "open"


def test_a_request_turned_away_counts_as_started_and_as_refused() -> None:
    service = answering()
    app = Access(create_app(service), service, KEY)
    asyncio.run(ask(app))
    asyncio.run(ask(app, {"x-sluice-probe": "1"}))
    got("/v1/models", app)
    metrics = service.metrics_text()
    for traffic in ("user", "synthetic"):
        assert series(metrics, "serving_requests_refused_total", traffic=traffic, code="invalid_api_key") == 1
        assert series(metrics, "serving_requests_finished_total", traffic=traffic, reason="refused") == 1
        assert series(metrics, "serving_requests_started_total", traffic=traffic, prompt_class="unknown") == 1


def test_listeners_hear_of_a_request_turned_away() -> None:
    outcomes: list[Outcome] = []
    service = answering(listeners=[outcomes.append])
    asyncio.run(ask(Access(create_app(service), service, KEY)))
    assert [(o.reason, o.code, o.arrival.interface, o.ask) for o in outcomes] == [
        ("refused", "invalid_api_key", "completions", None)
    ]


def test_a_server_for_probes_only_tells_a_user_just_that() -> None:
    refused = asyncio.run(ask(guarded(probes_only=True)))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "probes_only")


def test_the_openai_client_is_let_in_with_the_key_and_gets_its_own_error_without() -> None:
    async def complete(key: str) -> str:
        transport = httpx2.ASGITransport(guarded())
        async with openai.AsyncOpenAI(
            api_key=key,
            base_url="http://server/v1",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        ) as asking:
            answer = await asking.completions.create(model="model", prompt="1+1=", max_tokens=4)
            return answer.choices[0].text

    assert asyncio.run(complete(KEY)) == "42"
    with pytest.raises(openai.AuthenticationError) as refusal:
        asyncio.run(complete("sk-wrong"))
    assert refusal.value.code == "invalid_api_key"


def test_the_key_comes_from_the_setting_or_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert key_of(Settings(api_key=KEY)) == key_of(Settings(api_key_file=file)) == KEY
    assert key_of(Settings()) == ""


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"sk-\xff", b"sk-1\nsk-2\n"])
def test_a_file_without_a_usable_key_is_refused_and_its_content_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^SERVING_API_KEY_FILE=.*/key: the key must be") as refusal:
        key_of(Settings(api_key_file=file))
    assert "sk-" not in str(refusal.value)
    assert "two" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SERVING_API_KEY_FILE=.*/none: No such file"):
        key_of(Settings(api_key_file=tmp_path / "none"))


def test_a_key_and_a_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SERVING_API_KEY and SERVING_API_KEY_FILE are both set") as refusal:
        key_of(Settings(api_key=KEY, api_key_file=tmp_path))
    assert KEY not in str(refusal.value)


def test_a_key_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(ConfigError, match="SERVING_API_KEY: the key must be") as refusal:
        key_of(Settings(api_key="schlüssel"))
    assert "schl" not in str(refusal.value)


def test_settings_do_not_show_the_key() -> None:
    assert KEY not in repr(Settings(api_key=KEY)) + str(Settings(api_key=KEY))


@pytest.mark.parametrize(
    ("given", "right"), [(KEY, True), (KEY.encode(), True), ("", False), ("ä", False), ("\ud800", False)]
)
def test_any_text_can_be_compared_with_the_key(given: str | bytes, right: bool) -> None:
    assert matches(given, KEY) is right
