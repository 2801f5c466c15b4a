"""Probes of one version through the gateway: the OpenAI completions API as a user's client sees it, streamed.

Times are the client's own, in seconds, counted from *send*: the moment the request's head goes onto an open connection.
Waiting for a connection is not part of them, so that a burst of probes measures the version and not the burst.

- TTFT: send → first event that carries text. An answer without text has none; its TTFT is its E2E.
- E2E: send → end of the stream.
- TPOT: (E2E − TTFT) / (completion tokens − 1), per request, as vLLM's benchmark defines it. Tokens are the server's
  `usage`, never the number of events (an event may carry many); None for fewer than two tokens or without `usage`.

An answer is complete if every event could be read, one of them carried a `finish_reason`, and `[DONE]` ended them.
Whatever else came back (an HTTP error, an error event, a stream that broke or took too long) is an Answer with `error`:
a fault of the version. Only a gateway that cannot be reached at all raises.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from httpx_sse import EventSource, SSEError

from sluice.errors import BadInput, Unreachable
from sluice.evidence.client import Closing
from sluice.evidence.stream import Stream, StreamBroken
from sluice.ports import Answer, Prompt, Role

PROBE_HEADER = "x-sluice-probe"
CONNECT_SECONDS = 5.0
_NOT_NOW = frozenset({408, 429})
"""Codes below 500 that say nothing of what the version can do."""
_NOT_ALLOWED = frozenset({401, 403})
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)


class HttpEndpoint(Closing):
    """One model's API behind a gateway. Close it, or use it as an async context manager: it keeps connections open."""

    def __init__(
        self,
        base_url: str,
        host: str,
        model: str,
        *,
        timeout_seconds: float = 120.0,
        key: str = "",
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`base_url`: the gateway; `host`: the public host it routes by; `timeout_seconds`: for one whole answer.

        `key`: the bearer key that the servers want, "" for none.
        """
        self._url = base_url.rstrip("/")
        self._host = host
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # A transport of its own keeps proxies of the environment out of the way, and out of the times.
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            transport=httpx.AsyncHTTPTransport(limits=unlimited),
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
        )

    async def ask(self, prompt: Prompt, role: Role, token: str) -> Answer:
        """Stream one completion, greedy. Raises Unreachable if no gateway answers."""
        stream = Stream(self._monotonic)
        request = self._request("POST", "/v1/completions", role, token, json=self._body(prompt))
        request.extensions["trace"] = stream.trace
        try:
            async with asyncio.timeout(self._timeout_seconds):
                error = await self._receive(request, stream)
        except TimeoutError:
            error = f"the answer did not end within {self._timeout_seconds:g} s"
        return stream.answer(error)

    async def model_info(self, role: Role, token: str) -> Mapping[str, Any]:
        """`/model_info` of the version behind the role.

        Raises Unreachable if it gives no such answer, BadInput if it wants another key.
        """
        response = await self._send(self._request("GET", "/model_info", role, token))
        if response.status_code in _NOT_ALLOWED:
            raise BadInput(
                f"{response.request.url} (host {self._host}, {role}) answered HTTP {response.status_code}: "
                "correct SLUICE_ENDPOINT_KEY, or the access policy that keeps Sluice out"
            )
        info = _json(response) if response.is_success else None
        if not isinstance(info, dict):
            raise self._not_said(response, role, "a model's description")
        return info

    async def logprobs(self, prompt: str, answer: str, role: Role, token: str) -> Sequence[float] | None:
        """Log-probability of each token of `answer` after `prompt`, in nats: both are echoed and nothing generated.

        A token that begins in the prompt is not the answer's.

        None if the version refuses that, or answers without them. Raises Unreachable if it cannot be asked now.
        """
        body = {"model": self._model, "prompt": prompt + answer, "echo": True, "logprobs": 0, "max_tokens": 0}
        response = await self._send(self._request("POST", "/v1/completions", role, token, json=body))
        if response.is_server_error or response.status_code in _NOT_NOW:
            raise self._not_said(response, role, "log-probabilities")
        return _logprobs(_json(response), len(prompt)) if response.is_success else None

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._client.send(request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _not_said(self, response: httpx.Response, role: Role, wanted: str) -> Unreachable:
        return Unreachable(
            f"{response.request.url} (host {self._host}, {role}) answered HTTP {response.status_code} without "
            f"{wanted}: {response.text[:200]!r}; look at the {role}'s pods and at the gateway's routes"
        )

    async def _receive(self, request: httpx.Request, stream: Stream) -> str:
        """Read the answer into `stream`; returns what is wrong with it, or ""."""
        try:
            response = await self._client.send(request, stream=True)
        except _NOT_CONNECTED as error:
            raise self._unreachable(error) from error
        except httpx.HTTPError as error:
            return f"no answer: {_words(error)}"
        try:
            if not response.is_success:
                await response.aread()
                return _http_error(response)
            async for event in EventSource(response).aiter_sse():
                stream.take(event.data)
            return stream.missing()
        except (httpx.HTTPError, SSEError, StreamBroken) as error:
            return f"the stream broke after {stream.events} events: {_words(error)}"
        finally:
            await response.aclose()

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": prompt.prompt,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _request(
        self, method: str, path: str, role: Role, token: str, json: Mapping[str, Any] | None = None
    ) -> httpx.Request:
        headers = {"Host": self._host, PROBE_HEADER: f"{role}-{token}", "Accept-Encoding": "identity"}
        # Behind https, the gateway picks its certificate by the public host, not by the address it is reached at.
        extensions = {"sni_hostname": self._host}
        return self._client.build_request(method, self._url + path, json=json, headers=headers, extensions=extensions)

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        return Unreachable(
            f"the gateway at {self._url} does not answer for {self._host}: {_words(error)}; "
            f"try `curl -H 'Host: {self._host}' {self._url}/v1/models`"
        )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _json(response: httpx.Response) -> Any:
    """The body's data; None if it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _logprobs(answer: Any, begin: int) -> Sequence[float] | None:
    """Log-probabilities of the echoed tokens from character `begin` on; None if the answer does not hold these."""
    try:
        echoed = answer["choices"][0]["logprobs"]
        tokens = list(zip(echoed["text_offset"], echoed["token_logprobs"], strict=True))
        found = [float(value) for offset, value in tokens if offset >= begin]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    # The first token of all has none; a text that was generated instead has.
    return found if tokens and tokens[0][1] is None and all(map(math.isfinite, found)) else None


def _http_error(response: httpx.Response) -> str:
    """`HTTP 429 queue_full: …` from an OpenAI-style error body, or the body's beginning."""
    try:
        error = json.loads(response.text)["error"]
        code, message = error.get("code") or error.get("type") or "", error["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "", response.text.strip()[:200] or response.reason_phrase
    return f"HTTP {response.status_code} {code}".rstrip() + f": {message}"
