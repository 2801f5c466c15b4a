"""Prompt sets: what is read, and what is refused with file, line, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadInput
from sluice.evidence.prompts import read_prompts
from sluice.ports import Prompt

LINE = {"id": "a-1", "category": "add", "prompt": "1+1=", "answer": "2", "scorer": "exact", "max_tokens": 8}


def write(tmp_path: Path, *lines: str | dict[str, Any]) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in LINE.items() if key != name}


def test_prompts_come_in_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, "", LINE | {"id": "a-2", "answer": "3"})
    assert read_prompts(path) == (
        Prompt("a-1", "add", "1+1=", "2", "exact", 8),
        Prompt("a-2", "add", "1+1=", "3", "exact", 8),
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "the line is broken JSON .* write one complete JSON object"),
        ("[1]", "the line is no JSON object"),
        *((without(name), f"{name}: is missing; write") for name in LINE),
        (LINE | {"category": 7}, "category: is 7; write a text"),
        (LINE | {"max_tokens": 0}, "max_tokens: is 0; write a whole number"),
        (LINE | {"max_tokens": True}, "max_tokens: is True"),
        (LINE | {"scorer": "magic"}, "scorer: 'magic' is unknown; the scorers are exact, numeric,"),
        (LINE | {"scorer": "regex", "answer": "("}, r"answer: '\(' is no answer for the scorer regex"),
        (LINE | {"scorer": "numeric", "answer": "two"}, "answer: 'two' is no answer for the scorer numeric"),
        (LINE | {"scorer": "choice", "answer": "AB"}, "answer: 'AB' is no answer for the scorer choice"),
        (LINE | {"scorer": "json", "answer": "{"}, "answer: '{' is no answer for the scorer json"),
        (LINE | {"id": "a-0"}, "id: 'a-0' is already line 1's; give it another one"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_remedy(
    tmp_path: Path, line: str | dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path, LINE | {"id": "a-0"}, line)
    with pytest.raises(BadInput, match=rf"prompts\.jsonl:2: {complaint}"):
        read_prompts(path)


def test_an_empty_prompt_set_judges_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"prompts\.jsonl: the prompt set is empty"):
        read_prompts(write(tmp_path, "", ""))


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.jsonl: the prompt set cannot be read \(No such file"):
        read_prompts(tmp_path / "nowhere.jsonl")


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(json.dumps(LINE).encode() + b"\n\xff\n")
    with pytest.raises(BadInput, match=r"prompts\.jsonl:2: the line is not UTF-8"):
        read_prompts(path)
