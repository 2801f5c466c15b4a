"""What has been said on one open page, and how it is shown. Plain data and functions of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MEANT = str.maketrans({character: f"&#{ord(character)};" for character in "\\`*_[]<>&$~|"})
_LINE_START = re.compile(r"^( *)(\d*)([#+=.)-]?)", re.MULTILINE)
"""Indentation means code; signs, numbers before them or not, mean headings and lists."""


@dataclass(frozen=True)
class Turn:
    """A prompt and what came of it, as far as it came."""

    prompt: str
    thoughts: str = ""
    """What a reasoning model says to itself first."""
    answer: str = ""
    ended: bool = False
    note: str = ""
    """How the answer went, for the reader: tokens and times."""
    problem: str = ""
    """Why there is no answer, or only a part of one."""


def chat_messages(turns: Sequence[Turn], prompt: str) -> list[dict[str, str]]:
    """The conversation as a chat's template takes it: without thoughts, and without turns that were not answered."""
    messages = []
    for turn in turns:
        if turn.answer and not turn.problem:
            messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.answer}]
    return [*messages, {"role": "user", "content": prompt}]


def shown(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """The conversation as Gradio's Chatbot takes it."""
    return [message for turn in turns for message in _shown(turn)]


def verbatim(text: str) -> str:
    """Markdown that shows the text as it was written: what would mean something is given by number."""
    return _LINE_START.sub(_plain_line_start, text.expandtabs(4).translate(_MEANT))


def _plain_line_start(start: re.Match[str]) -> str:
    indentation, digits, sign = start.groups()
    return "&#160;" * len(indentation) + digits + (f"&#{ord(sign)};" if sign else "")


def _shown(turn: Turn) -> list[dict[str, Any]]:
    messages = [_message("user", verbatim(turn.prompt))]
    if turn.thoughts:
        thinking = not turn.answer and not turn.ended
        heading = {"title": "Thinking", "status": "pending" if thinking else "done"}
        messages.append(_message("assistant", turn.thoughts) | {"metadata": heading})
    if turn.answer:
        messages.append(_message("assistant", turn.answer))
    elif not turn.thoughts and not turn.problem:
        messages.append(_message("assistant", "*no text*" if turn.ended else "…"))
    if turn.problem:
        messages.append(_message("assistant", f"> **{verbatim(turn.problem)}**"))
    return messages


def _message(role: str, text: str) -> dict[str, Any]:
    # As a part of type text; Gradio would take the indentation off a plain string.
    return {"role": role, "content": [{"type": "text", "text": text}]}
