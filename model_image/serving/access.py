"""Who may ask: with a key configured, only whoever sends it as a bearer token.

Probes and metrics stay open, because those who read them have no key, and the page for people, which asks for the key
itself. A request for an answer that is turned away counts as refused like any other; nothing here ever shows a key.
"""

import hmac
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api import PROBE_HEADER, Envelope
from serving.ask import Arrival
from serving.config import ConfigError, Settings, variable
from serving.errors import ApiError, BadRequest
from serving.outcome import INTERFACES
from serving.service import Service
from serving.trace import SCOPE_KEY, TraceContext

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/metrics", "/ui"})
"""With everything below them."""


class InvalidApiKey(BadRequest):
    """The request has no key, or a wrong one."""

    status = 401

    def __init__(self) -> None:
        super().__init__("This server needs its API key: Authorization: Bearer <key>.", code="invalid_api_key")

    @property
    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


def key_of(settings: Settings) -> str:
    """The key that requests need; "" if they need none. Raises ConfigError, which does not show it."""
    if settings.api_key_file is None:
        return _checked(settings.api_key, variable("api_key")) if settings.api_key else ""
    name = variable("api_key_file")
    if settings.api_key:
        raise ConfigError(f"{variable('api_key')} and {name} are both set; unset one of them")
    try:
        content = settings.api_key_file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}={settings.api_key_file}: {error.strerror}; name a file that holds the key") from None
    # Not UTF-8: an error of decoding would show the key.
    return _checked(content.decode("latin-1").strip("\r\n"), f"{name}={settings.api_key_file}")


def matches(given: str | bytes, key: str) -> bool:
    """Whether a key that somebody gave is the right one, in a time that does not tell how much of it is."""
    presented = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given
    return hmac.compare_digest(presented, key.encode())


class Access:
    """ASGI middleware around `api.create_app`: 401 for every closed path without the key."""

    def __init__(self, app: ASGIApp, service: Service, key: str, open_paths: Collection[str] = OPEN_PATHS) -> None:
        self._app = app
        self._service = service
        self._key = key
        self._open_paths = open_paths
        self._refusal = Envelope(self._refuse, service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The application has nothing but HTTP.
        if scope["type"] != "http" or self._is_open(scope["path"]) or matches(_token(scope), self._key):
            await self._app(scope, receive, send)
        else:
            await self._refusal(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return any(path == open_path or path.startswith(f"{open_path}/") for open_path in self._open_paths)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: ApiError = InvalidApiKey()
        if scope["method"] == "POST" and scope["path"] in INTERFACES:
            error = self._service.refuse_unread(self._arrival(scope), error)
        await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)

    def _arrival(self, scope: Scope) -> Arrival:
        is_probe = any(name == PROBE_HEADER.encode() for name, _ in scope["headers"])
        return Arrival(
            at=self._service.clock(),
            interface=INTERFACES[scope["path"]],
            traffic="synthetic" if is_probe else "user",
            trace=scope.get(SCOPE_KEY, TraceContext()),
        )


def _checked(key: str, source: str) -> str:
    """A key as clients can send it in a header."""
    if not key or not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"{source}: the key must be one or more visible ASCII characters without spaces")
    return key


def _token(scope: Scope) -> bytes:
    """What follows `Bearer`, in any case; b"" if there is none."""
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = given.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
