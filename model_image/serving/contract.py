"""What a version promises its callers, as `/model_info` states it: the same in all of its processes."""

from dataclasses import dataclass
from typing import Any

from serving.engine import Engine, Sampling
from serving.model_dir import FileDigests, json_digest, text_digest


@dataclass(frozen=True)
class Contract:
    """All None until the model is loaded. Digests are `sha256:…`."""

    weights_digest: str | None = None
    """Over the safetensors in the order of their names."""
    dtype: str | None = None
    tokenizer: str | None = None
    """Over the tokenizer's files, without the chat template."""
    chat_template: str | None = None
    """Over the template's text; None, too, if the model has none."""
    stop_tokens: list[int] | None = None
    """Ids that end an answer, ascending."""
    context_tokens: int | None = None
    """Prompt and answer together."""
    sampling_defaults: dict[str, float | bool] | None = None
    """temperature, top_p and do_sample of a request that names none of them."""
    api_schema: str | None = None
    """Over the paths and schemas of the HTTP interface, see `api_digest`."""

    @classmethod
    def of(cls, engine: Engine, files: FileDigests, api_schema: str) -> "Contract":
        return cls(
            weights_digest=files.weights,
            dtype=engine.dtype,
            tokenizer=files.tokenizer,
            chat_template=_template_digest(engine.chat_template),
            stop_tokens=sorted(engine.stop_tokens),
            context_tokens=engine.context_tokens,
            sampling_defaults=_sampling(engine.default_sampling),
            api_schema=api_schema,
        )


def api_digest(openapi: dict[str, Any]) -> str:
    """Over the canonical JSON of an OpenAPI document's paths and schemas, without prose: words promise no behaviour."""
    schemas = openapi.get("components", {}).get("schemas", {})
    return json_digest(_without_prose({"paths": openapi["paths"], "schemas": schemas}))


def _template_digest(template: str | dict[str, str] | None) -> str | None:
    if template is None:
        return None
    return text_digest(template) if isinstance(template, str) else json_digest(template)


def _sampling(defaults: Sampling) -> dict[str, float | bool]:
    sampled = not defaults.greedy
    return {"temperature": float(defaults.temperature), "top_p": float(defaults.top_p), "do_sample": sampled}


def _without_prose(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    # A property that is called like this has a schema for a value, not a text.
    prose = {name for name in ("title", "summary", "description") if isinstance(value.get(name), str)}
    return {name: _without_prose(item) for name, item in value.items() if name not in prose}
