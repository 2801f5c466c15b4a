"""The page on a stage: served over HTTP from a thread, above an engine that a test drives by hand."""

import asyncio
import contextlib
import socket
import string
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import TypeVar

import uvicorn
from hand_driven import HandEngine, HandService
from server_process import wait_for
from starlette.types import ASGIApp, Receive, Scope, Send
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from serving.api import create_app
from serving.engine import Progress, Sampling
from serving.page.front import Page
from serving.run import Run

CHARACTERS = {character: number for number, character in enumerate(string.printable + "²…×")}
CHATTING = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}<assistant>"
THINKING = CHATTING + "<think>\n"
SECONDS = 20
"""Within which everything must have come about, on a machine that has other things to do."""
Result = TypeVar("Result")


class WritingEngine(HandEngine):
    """Speaks whole texts, one character a token, and remembers what it was asked."""

    tokenizer = Tokenizer(models.WordLevel(CHARACTERS, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    default_sampling = Sampling(temperature=0.6, top_p=0.95)

    def __init__(self, chat_template: str | None) -> None:
        super().__init__()
        self.chat_template = chat_template
        self.asked: list[tuple[str, int, Sampling]] = []

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        super().submit(request_id, prompt, max_tokens, sampling, deliver)
        self.asked.append((self.tokenizer.decode(prompt), max_tokens, sampling))

    def give(self, run: Run, text: str, *, finished: bool = False) -> None:
        self._given[run.id] += text
        deliver = self.requests.pop(run.id) if finished else self.requests[run.id]
        deliver(Progress([CHARACTERS[c] for c in self._given[run.id]], finished, eos=finished, error=None))


class WritingService(HandService):
    """A service whose requests a test can find by their order."""

    def __init__(self, chat_template: str | None, **settings: object) -> None:
        super().__init__("", Random(0), **settings)
        self.runs: list[Run] = []
        self.engine = self.hand = self.writing = WritingEngine(chat_template)

    def opened(self, run: Run) -> None:
        super().opened(run)
        self.runs.append(run)


class Stage:
    """A served page. Everything that touches the service happens on its own loop."""

    def __init__(self, service: WritingService, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self.url = url
        self._loop = loop

    def do(self, action: Callable[[], Result]) -> Result:
        """Call something on the service's loop."""

        async def act() -> Result:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(SECONDS)

    def say(self, text: str, *, finished: bool = False) -> None:
        """More of the answer to the last request, as soon as there is one that has not ended."""
        wait_for(lambda: self.do(lambda: bool(self.service.hand.requests)), SECONDS)
        self.do(lambda: self.service.hand.give(self.service.runs[-1], text, finished=finished))

    def metrics(self) -> str:
        return self.do(self.service.metrics_text)


class Rewritten:
    """A proxy's route that takes a prefix from the path, and says so as Envoy does."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            path = scope["path"]
            original = (b"x-envoy-original-path", path.encode() + b"?" + scope["query_string"])
            scope = scope | {"path": path.removeprefix(self._prefix), "headers": [*scope["headers"], original]}
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """Signals are the tests' business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def staged(
    chat_template: str | None = CHATTING, *, key: str = "", prefix: str = "", **settings: object
) -> Iterator[Stage]:
    """A page that is served while the block runs."""
    opened: list[tuple[Stage, asyncio.Event]] = []

    async def serve() -> None:
        named = {"model_id": "writer", "revision": "r7", "version": "v-2f8a"}
        service = WritingService(chat_template, **named | settings)
        page = Page(create_app(service), service, key)
        listener = socket.create_server(("127.0.0.1", 0))
        app = Rewritten(page, prefix) if prefix else page
        server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=SECONDS))
        await page.open(service.writing)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        closing = asyncio.Event()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        opened.append((Stage(service, url, asyncio.get_running_loop()), closing))
        await closing.wait()
        service.abandon("the test is over")
        await page.close()
        server.should_exit = True
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="stage")
    thread.start()
    try:
        wait_for(lambda: opened or not thread.is_alive(), SECONDS)
        yield opened[0][0]
    finally:
        if opened:
            stage, closing = opened[0]
            stage.do(closing.set)
        thread.join()
