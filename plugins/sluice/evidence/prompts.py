"""Prompt sets: JSON lines `{"id", "category", "prompt", "answer", "scorer", "max_tokens"}` → Prompts.

A prompt set decides whether a version is shipped, so everything that could make it score wrongly without a word is
refused: duplicate ids and fields, unknown scorers, and reference answers that their own scorer cannot use. Of prompts
with the scorer `rubric`, the answer is the criterion: what a good answer does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice.errors import BadInput
from sluice.evidence.scorers import SCORER_NAMES, check_reference
from sluice.ports import Prompt

_TEXTS = ("id", "category", "prompt", "answer", "scorer")


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts in the file's order. Raises BadInput naming file, line, field and remedy.

    References of the scorer `math` are read by its worker process, which takes seconds to start.
    """
    first_seen: dict[str, int] = {}
    prompts = []
    for number, line in _lines(path):
        prompt = _prompt(line, f"{path}:{number}")
        if prompt.id in first_seen:
            raise BadInput(
                f"{path}:{number}: id: {prompt.id!r} is already line {first_seen[prompt.id]}'s; give it another one"
            )
        first_seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise BadInput(f"{path}: the prompt set is empty; write one JSON object a line with {', '.join(_TEXTS)}")
    return tuple(prompts)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines from 1; blank ones are left out."""
    for number, line in enumerate(_bytes(path).split(b"\n"), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}:{number}: the line is not UTF-8 ({error}); save the file as UTF-8") from error
        if text.strip():
            yield number, text


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: the prompt set cannot be read ({error.strerror}); correct the path") from error


def _prompt(line: str, where: str) -> Prompt:
    try:
        fields = json.loads(line, object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: the line is broken JSON ({error}); write one complete JSON object a line") from error
    if not isinstance(fields, dict):
        raise BadInput(f"{where}: the line is no JSON object; write {{{', '.join(_TEXTS)}, max_tokens}}")
    texts = {name: _text(fields, name, where) for name in _TEXTS}
    prompt = Prompt(**texts, max_tokens=_max_tokens(fields, where))
    _check_answer(prompt, where)
    return prompt


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"a field is written twice among {', '.join(name for name, _value in pairs)}")
    return fields


def _text(fields: dict[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if name not in fields else f"is {value!r}"
        raise BadInput(f"{where}: {name}: {found}; write a text that is not empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadInput(f"{where}: {name}: is {value!r}, which is half a character and cannot be sent; write it whole")
    return value


def _max_tokens(fields: dict[str, Any], where: str) -> int:
    value = fields.get("max_tokens")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        found = "is missing" if "max_tokens" not in fields else f"is {value!r}"
        raise BadInput(f"{where}: max_tokens: {found}; write a whole number of tokens from 1")
    return value


def _check_answer(prompt: Prompt, where: str) -> None:
    if prompt.scorer not in SCORER_NAMES:
        raise BadInput(f"{where}: scorer: {prompt.scorer!r} is unknown; the scorers are {', '.join(SCORER_NAMES)}")
    try:
        check_reference(prompt)
    except BadInput as error:
        raise BadInput(f"{where}: scorer: {error}") from error
    except (ValueError, re.error, OverflowError, RecursionError) as error:
        raise BadInput(
            f"{where}: answer: {prompt.answer!r} is no answer for the scorer {prompt.scorer} ({error}); correct either"
        ) from error
