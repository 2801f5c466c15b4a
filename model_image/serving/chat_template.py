"""From a chat's messages to the text that the model reads: the model's own template, rendered as transformers does.

Nothing is added to the messages, no system prompt either. Templates come with the weights: they are rendered in jinja's
sandbox, and see nothing but the messages and the names of the special tokens.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from serving.errors import BadRequest, NoChatTemplate

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_DEFAULT = "default"


def render(
    template: str | Mapping[str, str] | None, messages: Sequence[Mapping[str, str]], special_tokens: Mapping[str, str]
) -> str:
    """The prompt of a chat, up to where the assistant's next message begins.

    Args:
        template: of the model; of several by name the one called `default`.
        messages: with `role`, `content` and whatever else the template reads.
        special_tokens: what `special_tokens` says.

    Raises NoChatTemplate, and BadRequest if the template refuses the messages.
    """
    from transformers.utils.chat_template_utils import render_jinja_template  # loaded by now, together with the model

    text = template.get(_DEFAULT) if isinstance(template, Mapping) else template
    if text is None:
        raise NoChatTemplate
    variables: dict[str, Any] = dict(special_tokens)
    try:
        rendered: Any = render_jinja_template(
            conversations=[[dict(message) for message in messages]],
            chat_template=text,
            add_generation_prompt=True,
            **variables,
        )
    except (TemplateError, TypeError) as error:
        message = f"messages: the model's chat template does not take them: {error}"
        raise BadRequest(message, code="invalid_value", parameter="messages") from error
    return str(rendered[0][0])


def special_tokens(directory: Path) -> dict[str, str]:
    """The special tokens that templates call by name, like `bos_token`, as a model's directory gives them."""
    older, config = (_entries(directory / name) for name in ("special_tokens_map.json", "tokenizer_config.json"))
    named = older | config
    texts = {name: _text(named.get(name)) for name in _NAMED_TOKENS}
    return {name: text for name, text in texts.items() if text is not None}


def _text(token: Any) -> str | None:
    # Older files write a token together with how it is to be split off.
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _entries(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text()) if file.exists() else {}
    return {name: value for name, value in content.items() if value is not None}
