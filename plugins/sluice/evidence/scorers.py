"""How an answer's text is scored against the reference answer: 0 … 1, by the scorer that the prompt names.

A reasoning model's text counts from the end of its thoughts (`</think>`); thoughts that were cut off are no answer,
however right they sound. A scorer of `SCORERS` is a pure function; `math` is asked of a process of its own
(`sluice.evidence.mathematics`); `rubric` cannot score one answer alone (`sluice.evidence.rubric`).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from sluice.errors import BadInput
from sluice.evidence import mathematics
from sluice.ports import Prompt

_VERSION = "1"
"""Of the scorers of this module; raised when one of them takes something else for right."""

# Scripts that are written without spaces end a word as a space does: 答案是-3, 选B.
_UNSPACED = r"\u0E00-\u0E7F\u2E80-\uA4CF\uAC00-\uD7AF\uF900-\uFAFF"
_IN_WORD = rf"[^\W{_UNSPACED}]"
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(rf"(?:(?<!{_IN_WORD})(?<![.)])[-+])?(?:{_WHOLE}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_MINUS = str.maketrans(dict.fromkeys("\u2212\ufe63\uff0d", "-"))
_THOUSANDS = re.compile(r"(?<=\d)(?<!\d{4})(?:\{,\}|,?\\[,!;]|[\u00A0\u2009\u202F])(?=\d{3}(?!\d))")
_FENCE = re.compile(r"^```\w*[^\S\n]*\n(.*?)\n?```$", re.DOTALL)
# A capital that stands by itself, but not the pronoun (I think) or an elision (L'État).
_LETTER = rf"(?<!{_IN_WORD})(?!I\s+[a-z])[A-Z](?!{_IN_WORD})(?!['’])"
_ALONE = re.compile(_LETTER)
_NAMED = re.compile(rf"(?i:\b(?:answer|option|choice)(?:\s+is)?)(?:[\s:*(\[{{$]|\\boxed|\\text)*({_LETTER})")


async def score(prompt: Prompt, text: str) -> float:
    """The score of `text` as an answer to `prompt`.

    Raises KeyError for an unknown scorer, BadInput for `rubric`, which compares two answers, and for `math` without its
    package; Unreachable if the process that scores `math` does not start.
    """
    if prompt.scorer == "rubric":
        raise BadInput(f"prompt {prompt.id!r}: an answer cannot be scored alone by a rubric; set gates.quality.rubric")
    answer = answer_in(prompt, text)
    if answer is None:
        return 0.0
    if prompt.scorer == "math":
        return await mathematics.worker().score(prompt.answer, answer)
    return float(SCORERS[prompt.scorer](prompt.answer, answer))


def answer_in(prompt: Prompt, text: str) -> str | None:
    """The text after the model's thoughts; None if they never end. Chat templates may open them at the prompt's end."""
    opened_by_prompt = prompt.prompt.rstrip().endswith("<think>")
    _thoughts, end, after = text.rpartition("</think>")
    if "<think>" in after or (opened_by_prompt and not end):
        return None
    return after


def check_reference(prompt: Prompt) -> None:
    """Can the prompt's scorer use its reference answer?

    Raises ValueError or re.error saying why not, BadInput if `math` lacks its package, KeyError for an unknown scorer.
    """
    if prompt.scorer == "math":
        mathematics.worker().check(prompt.answer)
    elif prompt.scorer != "rubric" and SCORERS[prompt.scorer](prompt.answer, ""):
        raise ValueError("an empty answer would count as right")


def scorer_versions(prompts: Iterable[Prompt]) -> Mapping[str, str]:
    """scorer → its version, for records: scores compare only between equal versions. Raises BadInput like `score`."""
    names = sorted({prompt.scorer for prompt in prompts})
    return {name: mathematics.version() if name == "math" else _VERSION for name in names}


def _exact(reference: str, text: str) -> bool:
    return _plain(text) == _plain(reference)


def _plain(text: str) -> str:
    """Without what cannot be seen: blanks around, composed or combining accents, the kind of line ends."""
    return unicodedata.normalize("NFC", "\n".join(text.strip().splitlines()))


def _contains(reference: str, text: str) -> bool:
    return _plain(reference) in _plain(text)


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
    written = _THOUSANDS.sub("", text.translate(_MINUS))
    return [_decimal(number.replace(",", "")) for number in _NUMBER.findall(written)]


def _decimal(number: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation:  # an exponent beyond all bounds
        return Decimal("Infinity")


def _choice(reference: str, text: str) -> bool:
    """One letter: the text alone (`b`, `(B).`), else the last one named the answer (`the answer is B, I think`),
    else the last capital that stands by itself (`A is wrong, so B.`)."""
    if not re.fullmatch(r"[A-Za-z]", reference.strip()):
        raise ValueError("write one letter")
    bare = text.strip(" \t\n\r().:[]*'\"")
    letters = [bare] if len(bare) == 1 else _NAMED.findall(text) or _ALONE.findall(text)
    return bool(letters) and letters[-1].upper() == reference.strip().upper()


def _json(reference: str, text: str) -> bool:
    """The text is JSON, in a code fence or not, and equal to the reference as data."""
    expected = _data(reference)
    try:
        return _same(expected, json_in(text))
    except (ValueError, RecursionError):
        return False


def json_in(text: str) -> Any:
    """The data in a text that is JSON, in a code fence or not. Raises ValueError, or RecursionError if nested deep."""
    fenced = _FENCE.match(text.strip())
    return _data(fenced[1] if fenced else text)


def _data(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


SCORERS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": _exact,
    "numeric": _numeric,
    "regex": _regex,
    "choice": _choice,
    "json": _json,
    "contains": _contains,
}
"""Scorer by name, as prompt sets use it: (reference answer, text) → right or not; raises ValueError or re.error if the
reference is not of its kind, whatever the text is."""

SCORER_NAMES = (*SCORERS, "math", "rubric")
