"""How an answer's text is scored against the reference answer: 0 … 1, by the scorer that the prompt names.

A reasoning model's text counts from the end of its thoughts (`</think>`); thoughts that were cut off are no answer,
however right they sound. A scorer raises ValueError or re.error if the *reference* is not of its kind, whatever the
text is: that is how prompt sets are checked when they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from sluice.ports import Prompt

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(rf"(?:(?<![\w.)])[-+])?(?:{_WHOLE}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_FENCE = re.compile(r"^```\w*\s*\n(.*?)\n?```$", re.DOTALL)


def score(prompt: Prompt, text: str) -> float:
    """The score of `text` as an answer to `prompt`. Raises KeyError for an unknown scorer."""
    answer = _after_thoughts(text)
    return float(SCORERS[prompt.scorer](prompt.answer, answer)) if answer is not None else 0.0


def _after_thoughts(text: str) -> str | None:
    _thoughts, end, after = text.rpartition("</think>")
    if end:
        return after
    return None if "<think>" in text else text


def _exact(reference: str, text: str) -> bool:
    return text.strip() == reference.strip()


def _contains(reference: str, text: str) -> bool:
    return reference in text


def _regex(reference: str, text: str) -> bool:
    """The reference is a pattern that must be found in the text."""
    return re.search(reference, text) is not None


def _numeric(reference: str, text: str) -> bool:
    """The last number in the text equals the reference as a number: `1,234.50` is `1234.5`."""
    expected = _numbers(reference)
    if len(expected) != 1:
        raise ValueError("write one number")
    return _numbers(text)[-1:] == expected


def _numbers(text: str) -> list[Decimal]:
    return [Decimal(number.replace(",", "")) for number in _NUMBER.findall(text)]


def _choice(reference: str, text: str) -> bool:
    """One letter: the text alone (`b`, `(B).`), else the last capital that stands by itself (`… the answer is B`)."""
    if not re.fullmatch(r"[A-Za-z]", reference.strip()):
        raise ValueError("write one letter")
    bare = text.strip(" \t\n\r().:[]*'\"")
    letters = [bare] if len(bare) == 1 else re.findall(r"\b[A-Z]\b", text)
    return bool(letters) and letters[-1].upper() == reference.strip().upper()


def _json(reference: str, text: str) -> bool:
    """The text is JSON, in a code fence or not, and equal to the reference as data."""
    expected = json.loads(reference)
    fenced = _FENCE.match(text.strip())
    return _same(expected, fenced[1] if fenced else text)


def _same(expected: Any, text: str) -> bool:
    try:
        return bool(json.loads(text) == expected)
    except ValueError:
        return False


SCORERS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": _exact,
    "numeric": _numeric,
    "regex": _regex,
    "choice": _choice,
    "json": _json,
    "contains": _contains,
}
"""Scorer by name, as prompt sets use it: (reference answer, text) → right or not."""
