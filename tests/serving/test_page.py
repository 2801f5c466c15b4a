"""The page for people, used by hand in a headless browser: the browser and the page are real, the engine is a test's.

SCREENSHOT=docs/serving-ui.png makes `test_formulas_and_code_are_rendered` leave a picture of the page there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
from hand_driven import HandService
from page_stage import SECONDS, THINKING, Stage, staged
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright
from server_process import MODEL_IMAGE, REVISIONS, ServerProcess, ready, series, wait_for
from starlette.testclient import TestClient

from serving.api import create_app
from serving.engine import Sampling
from serving.page import front
from serving.page.conversation import Turn, chat_messages, shown
from serving.service import Phase

KEY = "open-sesame"
PROSE = """The user wants a closed form. Telescoping $(k+1)^3 - k^3 = 3k^2 + 3k + 1$ over k should do.
</think>

The sum of the first \\(n\\) squares is

\\[ \\sum_{k=1}^{n} k^2 = \\frac{n(n+1)(2n+1)}{6}. \\]

For \\(n = 4\\) this gives \\(1 + 4 + 9 + 16 = 30\\), and Python agrees:

```python
def sum_of_squares(n: int) -> int:
    return n * (n + 1) * (2 * n + 1) // 6


assert sum_of_squares(4) == sum(k**2 for k in range(5)) == 30
```

$$ \\lim_{n \\to \\infty} \\frac{1}{n^3} \\sum_{k=1}^{n} k^2 = \\frac{1}{3} $$
"""
"""As a reasoning model answers, whose template has opened the thinking."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("REQUIRE_CHROMIUM"), "REQUIRE_CHROMIUM is set, but there is no chromium"
        pytest.skip("there is no chromium to look at the page with")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ready(REVISIONS / "r2", tmp_path_factory.mktemp("page") / "log", ui=1) as process:
        yield process


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as one:
        yield one


class Visitor:
    """Somebody in front of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.elsewhere: list[Request] = []
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: self._note(request, url))
        page.goto(f"{url}/ui")
        self.answers = page.locator("#conversation .bot.message")
        self.note = page.locator("#note")
        self.prompt = page.locator("#prompt textarea")
        self.prompt.wait_for()

    def _note(self, request: Request, url: str) -> None:
        if not request.url.startswith((f"{url}/", "data:", "blob:")):
            self.elsewhere.append(request)

    def ask(self, prompt: str) -> None:
        said = self.page.locator("#conversation .user.message")
        before = said.count()
        self.prompt.fill(prompt)
        self.prompt.press("Enter")
        expect(said).to_have_count(before + 1)

    def ask_when_ready(self, prompt: str) -> None:
        self.page.get_by_test_id("submit-button").wait_for()
        self.ask(prompt)

    def box(self, label: str) -> Locator:
        return self.page.get_by_label(f"number input for {label}")


@pytest.fixture
def visit(browser: Browser) -> Iterator[object]:
    pages: list[Page] = []

    def come(stage: Stage | ServerProcess, path: str = "") -> Visitor:
        pages.append(browser.new_page(viewport={"width": 1280, "height": 800}))
        return Visitor(pages[-1], f"{stage.url}{path}")

    yield come
    for page in pages:
        page.close()


Visit = Callable[..., Visitor]


def test_an_answer_is_shown_as_it_comes(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    visitor.ask("Say *hello*")
    stage.say("Hel")
    expect(visitor.answers.last).to_have_text("Hel")
    expect(visitor.prompt).to_have_value("")
    stage.say("lo, you.", finished=True)
    expect(visitor.answers.last).to_have_text("Hello, you.")
    expect(visitor.note).to_contain_text("11 tokens in 0.0 s")
    expect(visitor.page.locator("#conversation .user.message")).to_have_text("Say *hello*")


def test_model_revision_and_version_are_shown(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    expect(visitor.page.locator("#served")).to_contain_text("writer")
    expect(visitor.page.locator("#served")).to_contain_text("revision r7 · version v-2f8a")
    expect(visitor.page).to_have_title("writer r7")


def test_stop_cancels_the_request_in_the_engine(stage: Stage, visit: Visit) -> None:
    visitor, before = visit(stage), cancelled(stage)
    visitor.ask("Go on")
    stage.say("and on")
    visitor.page.get_by_test_id("stop-button").click()
    expect(visitor.note).to_contain_text("6 tokens in 0.0 s, stopped")
    assert not stage.service.hand.requests, "the engine works on"
    assert cancelled(stage) == before + 1
    expect(visitor.answers.last).to_have_text("and on")
    visitor.ask("Again")
    stage.say("gladly", finished=True)
    expect(visitor.answers.last).to_have_text("gladly")


def test_a_request_that_waits_for_its_first_token_can_be_stopped(stage: Stage, visit: Visit) -> None:
    visitor, before = visit(stage), cancelled(stage)
    visitor.ask("Go on")
    visitor.page.get_by_test_id("stop-button").click()
    expect(visitor.note).to_contain_text("0 tokens in 0.0 s, stopped")
    assert cancelled(stage) == before + 1


@pytest.mark.parametrize("said", ["", "and on"], ids=["before the first token", "amid its answer"])
def test_closing_the_tab_cancels_its_request(stage: Stage, visit: Visit, said: str) -> None:
    visitor, before = visit(stage), cancelled(stage)
    visitor.ask("Go on")
    stage.say(said)
    visitor.page.close()
    wait_for(lambda: cancelled(stage) == before + 1, SECONDS)
    assert not stage.service.hand.requests, "the engine works on"


def cancelled(stage: Stage) -> float:
    return series(stage.metrics(), "serving_requests_finished_total", reason="cancelled")


def test_the_models_own_sampling_is_shown_and_asked_for(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    expect(visitor.box("Temperature")).to_have_value("0.6")
    expect(visitor.box("Top p")).to_have_value("0.95")
    visitor.ask("Hello")
    stage.say("Hello", finished=True)
    prompt, max_tokens, sampling = stage.service.writing.asked[-1]
    assert sampling == Sampling(temperature=0.6, top_p=0.95)
    assert max_tokens == 1024 - len(prompt), "as many as fit"


def test_changed_sampling_is_asked_for(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    for label, value in {"Temperature": "1.25", "Top p": "0.5", "Max tokens": "77"}.items():
        visitor.box(label).fill(value)
    visitor.page.get_by_label("Stop").fill("END\nfin")
    visitor.ask("Hello")
    stage.say("Hello END")
    expect(visitor.note).to_contain_text("9 tokens")
    expect(visitor.answers.last).to_have_text("Hello")
    _, max_tokens, sampling = stage.service.writing.asked[-1]
    assert (sampling, max_tokens) == (Sampling(temperature=1.25, top_p=0.5), 77)


def test_earlier_turns_are_sent_along_until_a_new_conversation_begins(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    asked = stage.service.writing.asked
    visitor.ask("One")
    stage.say("1", finished=True)
    visitor.ask_when_ready("Two")
    stage.say("2", finished=True)
    assert asked[-1][0] == "<user>One<assistant>1<user>Two<assistant>"
    visitor.page.get_by_text("Send earlier turns along").uncheck()
    visitor.ask_when_ready("Three")
    stage.say("3", finished=True)
    assert asked[-1][0] == "<user>Three<assistant>"
    visitor.page.get_by_text("New conversation").click()
    expect(visitor.answers).to_have_count(0)


def test_a_model_without_a_chat_template_completes_each_prompt_by_itself(visit: Visit) -> None:
    with staged(chat_template=None) as stage:
        visitor = visit(stage)
        expect(visitor.page.get_by_text("it completes each prompt by itself")).to_be_visible()
        for prompt in ("One", "Two"):
            visitor.ask_when_ready(prompt)
            stage.say("!", finished=True)
            expect(visitor.note).to_contain_text("1 token in")
            assert stage.service.writing.asked[-1][0] == prompt


def test_formulas_and_code_are_rendered(visit: Visit) -> None:
    with staged(THINKING) as stage:
        visitor = visit(stage)
        visitor.ask("What is 1² + 2² + … + n²? Check it in Python.")
        stage.do(lambda: setattr(stage.service, "now", 11.2))
        stage.say(PROSE, finished=True)
        expect(visitor.page.locator("#conversation .katex-display")).to_have_count(2)
        expect(visitor.page.locator("#conversation .bot .katex")).to_have_count(5)
        code = visitor.page.locator("#conversation pre code")
        expect(code).to_contain_text("\n    return n * (n + 1) * (2 * n + 1) // 6\n")
        expect(code.locator(".token.keyword").first).to_have_text("def")
        if picture := os.environ.get("SCREENSHOT"):
            visitor.page.evaluate("async () => void (await document.fonts.ready)")
            visitor.page.screenshot(path=picture)


def test_thoughts_are_shown_apart_and_folded_when_the_answer_begins(visit: Visit) -> None:
    with staged(THINKING) as stage:
        visitor = visit(stage)
        visitor.ask("Well?")
        stage.say("Let me see.")
        thoughts = visitor.page.get_by_text("Let me see.")
        expect(thoughts).to_be_visible()
        stage.say("</think>\n\nIt is so.", finished=True)
        expect(visitor.page.get_by_text("It is so.")).to_be_visible()
        expect(thoughts).to_be_hidden()
        visitor.page.get_by_text("Thinking").click()
        expect(thoughts).to_be_visible()


def test_a_full_queue_is_said_and_the_prompt_is_kept(visit: Visit) -> None:
    with staged(max_requests_per_batch=1, max_queue=0) as stage:
        first, second = visit(stage), visit(stage)
        first.ask("Mine")
        stage.say("All")
        second.ask("Mine, too")
        expect(second.answers.last).to_have_text("0 requests are waiting already; try again later.")
        expect(second.prompt).to_have_value("Mine, too")
        assert series(stage.metrics(), "serving_requests_refused_total", code="queue_full") == 1
        stage.say(" of it", finished=True)
        second.ask_when_ready("Mine, too")
        stage.say("Now it is", finished=True)
        expect(second.answers.last).to_have_text("Now it is")
        assert stage.service.writing.asked[-1][0] == "<user>Mine, too<assistant>", "what was refused is not history"


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    visitor.ask("x" * 1100)
    expect(visitor.answers.last).to_contain_text("maximum context length is 1024 tokens")
    expect(visitor.answers.last).to_contain_text("you requested 1118 tokens")


def test_a_server_that_shuts_down_says_so(visit: Visit) -> None:
    with staged() as stage:
        visitor = visit(stage)
        stage.do(lambda: setattr(stage.service, "phase", Phase.REFUSING))
        visitor.ask("Still there?")
        expect(visitor.answers.last).to_have_text("The server is shutting down.")


def test_an_answer_that_fails_keeps_what_came_of_it(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    visitor.ask("Hello")
    stage.say("Hel")
    stage.do(lambda: stage.service.abandon("the server is shutting down"))
    expect(visitor.page.locator("#conversation blockquote")).to_have_text(
        "The generation failed: the server is shutting down"
    )
    expect(visitor.answers.last).to_contain_text("Hel")


def test_with_a_key_the_page_asks_for_it(visit: Visit) -> None:
    with staged(key=KEY) as stage:
        visitor = visit(stage)
        visitor.ask("Hello")
        expect(visitor.answers.last).to_have_text("The API key is missing or wrong. Enter it beside the conversation.")
        assert series(stage.metrics(), "serving_requests_refused_total", code="invalid_api_key") == 1
        visitor.page.locator("#key input").fill(KEY)
        visitor.ask_when_ready("Hello")
        stage.say("Hello", finished=True)
        expect(visitor.answers.last).to_have_text("Hello")


def test_without_a_key_the_page_does_not_ask_for_one(stage: Stage, visit: Visit) -> None:
    expect(visit(stage).page.locator("#key")).to_have_count(0)


def test_everything_comes_from_the_server_itself(stage: Stage, visit: Visit) -> None:
    visitor = visit(stage)
    visitor.ask("Show me")
    with visitor.page.expect_event("requestfailed", lambda request: request in visitor.elsewhere) as failed:
        stage.say("\\(x^2\\) ![a picture](https://example.org/picture.png)", finished=True)
    expect(visitor.page.locator("#conversation .katex")).to_have_count(1)
    visitor.page.evaluate("async () => void (await document.fonts.ready)")
    assert failed.value.failure == "csp", "the page's policy forbids the browser to fetch a picture elsewhere"
    assert visitor.elsewhere == [failed.value]


def test_the_page_works_under_a_prefix_that_a_proxy_takes_away(visit: Visit) -> None:
    with staged(prefix="/models/writer") as stage:
        visitor = visit(stage, "/models/writer")
        visitor.ask("Hello")
        stage.say("Hello", finished=True)
        expect(visitor.answers.last).to_have_text("Hello")
        assert not visitor.elsewhere


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/etc/hostname"),
        ("GET", "/gradio_api/proxy=https://example.org/"),
        ("POST", "/gradio_api/run/ask"),
        ("POST", "/gradio_api/call/ask"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/openapi.json"),
        ("GET", "/monitoring"),
        ("POST", "/login"),
        ("DELETE", "/"),
    ],
)
def test_what_the_page_does_not_need_is_not_found(stage: Stage, method: str, path: str) -> None:
    response = httpx.request(method, f"{stage.url}/ui{path}")
    assert (response.status_code, response.text) == (404, "not found")


@pytest.mark.parametrize("body", [b"x" * (1 << 20 | 1), iter([b"of unknown length"])], ids=["too long", "chunked"])
def test_a_body_is_limited(stage: Stage, body: bytes | Iterator[bytes]) -> None:
    assert httpx.post(f"{stage.url}/ui/gradio_api/queue/join", content=body).status_code == 413


def test_other_paths_are_the_interfaces(stage: Stage) -> None:
    assert httpx.get(f"{stage.url}/model_info").json()["model"] == "writer"
    assert httpx.get(f"{stage.url}/uiuiui").status_code == 404


def test_while_the_model_is_loaded_the_page_says_so() -> None:
    service = HandService("", Random(0))
    answer = TestClient(front.Page(create_app(service), service, "")).get("/ui/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "being loaded" in answer.text


def test_gradio_is_imported_only_where_the_page_is_laid_out() -> None:
    program = "import serving.lifecycle, sys; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=MODEL_IMAGE).returncode == 0


@pytest.mark.parametrize(
    "text",
    ["12+34=", "a*b*c __init__", "# 1\n- 2\n3. 4\n=", "    four\n\tone", "<b>&amp;", "[x](y) `z` $$1$$ \\(2\\)", "1)"],
)
def test_a_prompt_is_shown_as_it_was_written(stage: Stage, visit: Visit, text: str) -> None:
    visitor = visit(stage)
    visitor.ask(text)
    stage.say("", finished=True)
    said = visitor.page.locator("#conversation .user.message .message-content p")
    expect(said).to_have_count(1)
    assert said.inner_text().replace("\xa0", " ").strip("\n") == text.expandtabs(4)


def test_a_conversation_is_sent_without_thoughts_and_without_what_failed() -> None:
    turns = [
        Turn("1", "hm", "one", ended=True),
        Turn("2", problem="queue full", ended=True),
        Turn("3", answer="thr", problem="failed", ended=True),
        Turn("4", ended=True),
    ]
    assert chat_messages(turns, "5") == [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "5"},
    ]


def test_an_answer_without_text_is_not_shown_as_nothing() -> None:
    assert shown([Turn("1", ended=True)])[-1]["content"][0]["text"] == "*no text*"


def test_a_real_model_answers_on_the_page_and_counts_it_as_its_own(server: ServerProcess, visit: Visit) -> None:
    visitor = visit(server)
    visitor.ask("12+34=")
    expect(visitor.answers.last).to_have_text("46")
    expect(visitor.note).to_contain_text("3 tokens in")
    assert series(server.metrics(), "serving_requests_finished_total", traffic="user", reason="stop") == 1
    assert '"interface":"page"' in server.log.read_text()


def test_without_the_page_there_is_none(tmp_path: Path) -> None:
    with ready(REVISIONS / "r2", tmp_path / "log", ui=0) as server:
        assert server.client.get("/ui/").status_code == 404


def test_an_open_page_does_not_hold_up_the_end(visit: Visit, tmp_path: Path) -> None:
    with ready(REVISIONS / "r2", tmp_path / "log", ui=1) as server:
        visit(server)
        server.terminate()
        assert server.process.wait(SECONDS) == 0
        log = server.log.read_text()
    assert "drained" in log
    assert "Cancel" not in log, "uvicorn had to cut the page's connections"
