"""What stands before Gradio: only what the page needs gets through, nothing is loaded from elsewhere, any prefix works.

Gradio has more routes than a page without files needs (uploads, a proxy, files, calls by name): they are not found.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.engine import Engine
from serving.page.talk import Talk
from serving.service import Service

if TYPE_CHECKING:
    from serving.page.layout import Built

PATH = "/ui"
MAX_BODY_BYTES = 1 << 20
_API = "/gradio_api"
_READ = frozenset({"/", "/config", "/theme.css", "/favicon.ico", f"{_API}/queue/data", f"{_API}/app_id"})
_READ_BELOW = ("/assets/", "/static/", f"{_API}/heartbeat/")
_WRITE = frozenset({f"{_API}/queue/join"})
_NAMED_BY_CONTENT = "/assets/"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'self'"
)
"""An answer may hold a link to an image somewhere: the browser does not fetch it."""
_LOADING = "<!doctype html><title>Loading</title><meta http-equiv='refresh' content='2'><p>The model is being loaded …"


class Page:
    """ASGI: answers what lies under /ui, hands everything else on. Exists from the start, opens with the model."""

    def __init__(self, app: ASGIApp, service: Service, key: str) -> None:
        self._app = app
        self._service = service
        self._key = key
        self._built: Built | None = None
        self._running = AsyncExitStack()

    async def open(self, engine: Engine) -> None:
        """Show the page from now on. Takes some tenths of a second of the event loop, and seconds without `prepare`."""
        from serving.page.layout import build

        talk = Talk(self._service, self._key)
        built = build(talk, engine, self._service.settings, PATH, keyed=bool(self._key))
        await self._running.enter_async_context(built.app.router.lifespan_context(built.app))
        await built.visit(f"{PATH}/", f"{PATH}{_API}/app_id")
        self._built = built

    async def close(self) -> None:
        """End what open pages are connected to."""
        if self._built is not None:
            self._built.stop()
        await self._running.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"] + "/").startswith(f"{PATH}/"):
            await self._app(scope, receive, send)
        elif (answer := self._answer(scope)) is not None:
            await answer(scope, receive, send)
        elif self._built is not None:
            await self._built.app(_below_prefix(scope), receive, _guarded(scope, send))

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered without Gradio."""
        path, method = scope["path"].removeprefix(PATH), scope["method"]
        if not path:
            # Relative to what the browser asked for, which may have a prefix that a proxy took away.
            return Response(status_code=307, headers={"location": f".{PATH}/"})
        if not _is_needed(method, path):
            return PlainTextResponse("not found", 404)
        if self._built is None:
            return HTMLResponse(_LOADING, 503, {"retry-after": "2"})
        if method == "POST" and not _is_small(Headers(scope=scope)):
            return PlainTextResponse(f"more than {MAX_BODY_BYTES} bytes, or of unknown length", 413)
        return None


def prepare() -> None:
    """Import what the page needs, which takes seconds: in a thread, while the model is loaded."""
    import serving.page.layout  # noqa: F401


def _is_needed(method: str, path: str) -> bool:
    if method == "POST":
        return path in _WRITE
    return method == "GET" and (path in _READ or path.startswith(_READ_BELOW))


def _is_small(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isdecimal() and int(length) <= MAX_BODY_BYTES


def _below_prefix(scope: Scope) -> Scope:
    """As the browser knows the path: Envoy says what it was before a route rewrote it."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    path = scope["path"]
    original = Headers(scope=scope).get("x-envoy-original-path", "").partition("?")[0]
    if original.endswith(path):
        return {**scope, "headers": headers, "path": original, "root_path": original.removesuffix(path)}
    return {**scope, "headers": headers}


def _guarded(scope: Scope, send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = _POLICY
            headers["referrer-policy"] = "no-referrer"
            if scope["path"].startswith(PATH + _NAMED_BY_CONTENT):
                headers["cache-control"] = "public, max-age=31536000, immutable"
        await send(message)

    return guarded
