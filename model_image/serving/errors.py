"""What a client can be told instead of an answer, in OpenAI's error shape.

ApiError
├── BadRequest            400  the request is wrong; repeating it does not help
│   ├── InvalidApiKey     401  the key is missing or wrong (defined in `access`)
│   ├── ContextTooLong    400  prompt + max_tokens exceed the model's context
│   ├── NoChatTemplate    400  the model has none, so it cannot chat
│   ├── UnknownModel      404  another model is served here
│   └── BodyTooLarge      413  more bytes than a request may have
├── QueueFull             429  try again after Retry-After
├── InsufficientKvCache   503  this server's cache is smaller than the request, although the model's context is not
├── Unavailable           503  loading, draining, probes only, or the engine is dead
├── GenerationFailed      500  the engine or a drill failed this request
└── DeadlineExceeded      504  cancelled after SERVING_REQUEST_DEADLINE_SECONDS
"""

from typing import Any, ClassVar


class ApiError(Exception):
    """An answer with a status, OpenAI's `type` and `code`, and the parameter that it is about."""

    status: ClassVar[int]
    kind: ClassVar[str]

    def __init__(self, message: str, *, code: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.parameter = parameter

    def body(self) -> dict[str, Any]:
        """The JSON body: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.parameter, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        return {}


class BadRequest(ApiError):
    """A parameter is wrong or not supported."""

    status = 400
    kind = "invalid_request_error"


class ContextTooLong(BadRequest):
    """prompt + max_tokens exceed the model's context."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens. However, you requested "
            f"{prompt_tokens + max_tokens} tokens ({prompt_tokens} in the prompt, {max_tokens} for the completion).",
            code="context_length_exceeded",
            parameter="prompt",
        )


class UnknownModel(BadRequest):
    """The request names a model that is not served here."""

    status = 404

    def __init__(self, requested: str, served: str) -> None:
        super().__init__(
            f"The model {requested!r} is not served here; this is {served!r}.",
            code="model_not_found",
            parameter="model",
        )


class NoChatTemplate(BadRequest):
    """The model's files do not say how it reads a chat."""

    def __init__(self) -> None:
        super().__init__(
            "messages: this model has no chat template; ask /v1/completions with a prompt as the model reads it.",
            code="no_chat_template",
            parameter="messages",
        )


class BodyTooLarge(BadRequest):
    """The request's body is longer than any that is read."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"body: more than {limit_bytes} bytes, which is the most a request may have", code="too_large")


class QueueFull(ApiError):
    """As many requests wait as may."""

    status = 429
    kind = "rate_limit_error"

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again later.", code="queue_full")

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class _ServerError(ApiError):
    kind = "server_error"


class InsufficientKvCache(_ServerError):
    """The request can never fit this server's KV cache."""

    status = 503

    def __init__(self, needed_tokens: int, cache_tokens: int) -> None:
        super().__init__(
            f"The request needs {needed_tokens} tokens of KV cache, this server has {cache_tokens}; "
            "its SERVING_KV_CACHE_TOKENS is too small for the model's context.",
            code="insufficient_kv_cache",
        )


class Unavailable(_ServerError):
    """The server does not take requests now; `code` is `loading`, `draining`, `probes_only` or `engine_dead`."""

    status = 503


class GenerationFailed(_ServerError):
    """This request failed, others may not; `code` is `generation_failed` or `injected_fault`."""

    status = 500


class DeadlineExceeded(_ServerError):
    """The request took longer than it may and was cancelled."""

    status = 504

    def __init__(self, deadline_seconds: float) -> None:
        super().__init__(
            f"The request took longer than {deadline_seconds:g} s and was cancelled.", code="deadline_exceeded"
        )
