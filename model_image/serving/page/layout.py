"""The page itself, in Gradio's components. Importing this module takes seconds: done while the model is loaded."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr
import httpx
from fastapi import FastAPI
from gradio.routes import App
from starlette.routing import Mount

from serving.config import Settings
from serving.engine import Engine
from serving.page.conversation import Turn, shown, verbatim
from serving.page.style import CSS, THEME
from serving.page.talk import Talk

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
_QUEUE_SLEEP_SECONDS = 0.05
_PROGRESS_SLEEP_SECONDS = 1.0
Turns = tuple[Turn, ...]


@dataclass(frozen=True)
class Built:
    """The page as an application below `path`."""

    app: FastAPI
    gradio: App

    async def visit(self, *paths: str) -> None:
        """Be the first visitor, whom it takes longest to answer, before there are streams that would have to wait."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost") as visitor:
            for path in paths:
                (await visitor.get(path)).raise_for_status()

    def stop(self) -> None:
        """End what open pages are connected to, which would go on for as long as they are open."""
        self.gradio.get_blocks().is_running = False
        self.gradio.stop_event.set()


def build(talk: Talk, engine: Engine, settings: Settings, path: str, keyed: bool) -> Built:
    """Lay the page out; on the event loop, and before anything is served, because it takes some tenths of a second."""
    # Statistics that nobody reads: after every answer, by pandas.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(sys.maxsize))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    blocks = gr.Blocks(
        title=f"{settings.model_id} {settings.revision}", analytics_enabled=False, fill_height=True, fill_width=True
    )
    # The server's own admission is to decide how many run and wait; Gradio's queue must never be the narrower one.
    blocks.max_threads = 2 * (settings.max_requests_per_batch + settings.max_queue)
    with blocks:
        _lay_out(blocks, talk, engine, settings, keyed)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    # It polls, every millisecond unless told otherwise, which is some percent of a core.
    blocks._queue.sleep_when_free = _QUEUE_SLEEP_SECONDS
    blocks._queue.progress_update_sleep_when_free = _PROGRESS_SLEEP_SECONDS
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app, blocks, path, footer_links=[], run_history=False, ssr_mode=False, theme=THEME, css=CSS, show_error=False
    )
    return Built(
        app, next(route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, App))
    )


def _lay_out(blocks: gr.Blocks, talk: Talk, engine: Engine, settings: Settings, keyed: bool) -> None:
    gr.Markdown(_served(settings), elem_id="served")
    turns: gr.State = gr.State(())
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=480):
            conversation = gr.Chatbot(
                elem_id="conversation",
                label="Conversation",
                show_label=False,
                height="calc(100vh - 190px)",
                latex_delimiters=LATEX,
                buttons=["copy"],
                feedback_options=None,
                allow_tags=False,
                placeholder=_placeholder(engine),
            )
            prompt = gr.Textbox(
                elem_id="prompt",
                label="Prompt",
                show_label=False,
                placeholder="Enter a prompt",
                lines=1,
                max_lines=12,
                autofocus=True,
                submit_btn=True,
                container=False,
            )
            note = gr.Markdown("", elem_id="note")
        with gr.Column(scale=1, min_width=250):
            controls = _controls(engine, settings)
            chats = engine.chat_template is not None
            remembers = gr.Checkbox(chats, label="Send earlier turns along", visible=chats, elem_id="remembers")
            key = gr.Textbox(label="API key", type="password", visible=keyed, elem_id="key")
            clear = gr.Button("New conversation", size="sm", elem_id="clear")
    outputs = [prompt, clear, conversation, note, turns]
    ask = _ask(talk, min(settings.max_new_tokens, engine.context_tokens))
    prompt.submit(ask, [prompt, turns, key, remembers, *controls], outputs, show_progress="hidden")
    prompt.stop(_stop(talk), show_progress="hidden")
    clear.click(_clear, None, outputs, show_progress="hidden")
    blocks.unload(_stop(talk))


def _served(settings: Settings) -> str:
    return f"# {verbatim(settings.model_id)}\nrevision `{settings.revision}` · version `{settings.version}`"


def _placeholder(engine: Engine) -> str:
    if engine.chat_template is None:
        return "This model has no template for chats: it completes each prompt by itself."
    return "Ask something. Thoughts are shown apart; formulas and code are rendered."


def _controls(engine: Engine, settings: Settings) -> list[gr.components.Component]:
    """Temperature, top-p, max tokens and stop strings, as they are for a request that names none."""
    model, most = engine.default_sampling, min(settings.max_new_tokens, engine.context_tokens)
    return [
        gr.Slider(
            0,
            2,
            model.temperature,
            step=0.01,
            label="Temperature",
            info=f"Model's own: {model.temperature:g}; greedy: 0",
        ),
        gr.Slider(0.01, 1, model.top_p, step=0.01, label="Top p", info=f"Model's own: {model.top_p:g}"),
        gr.Slider(1, most, most, step=1, label="Max tokens", info="Highest: as many as fit"),
        gr.Textbox(label="Stop", info="Strings that end the answer, one a line", lines=1, max_lines=4),
    ]


def _ask(talk: Talk, most_tokens: int) -> Any:
    async def ask(
        prompt: str,
        turns: Turns,
        key: str | None,
        remembers: bool,
        temperature: float,
        top_p: float,
        max_tokens: int,
        stop: str | None,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:
        if not prompt.strip():
            return
        asked = talk.answer(
            _session(request),
            turns if remembers else (),
            prompt,
            key or "",
            {
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": None if max_tokens == most_tokens else max_tokens,
                "stop": list(filter(None, (stop or "").split("\n"))),
            },
        )
        first = True
        async with aclosing(asked):
            async for turn in asked:
                yield [*_buttons(turn, first), shown([*turns, turn]), turn.note, (*turns, turn)]
                first = False

    return ask


def _buttons(turn: Turn, first: bool) -> list[Any]:
    """What becomes of the prompt's box and of the button for a new conversation: a refused prompt stays in its box."""
    emptied: dict[str, Any] = {"value": ""} if first and not turn.problem else {}
    if turn.ended:
        return [gr.Textbox(**emptied, submit_btn=True, stop_btn=False), gr.Button(interactive=True)]
    if first:
        return [gr.Textbox(**emptied, submit_btn=False, stop_btn=True), gr.Button(interactive=False)]
    return [gr.skip(), gr.skip()]


def _stop(talk: Talk) -> Any:
    async def stop(request: gr.Request) -> None:
        talk.stop(_session(request))

    return stop


async def _clear() -> list[Any]:
    return [gr.skip(), gr.skip(), [], "", ()]


def _session(request: gr.Request) -> str:
    return request.session_hash or ""
