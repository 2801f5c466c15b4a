"""Prompt sets: what is read, and what is refused with file, line, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadInput
from sluice.evidence.mathematics import worker
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
        (LINE | {"scorer": "regex", "answer": "[0-9]*"}, "answer: .* .an empty answer would count as right"),
        (LINE | {"scorer": "regex", "answer": "a{99999999999}"}, "answer: .* is no answer for the scorer regex"),
        (LINE | {"scorer": "json", "answer": "NaN"}, "answer: 'NaN' is no answer for the scorer json"),
        (LINE | {"answer": " "}, "answer: is ' '; write a text that is not empty"),
        (LINE | {"prompt": "\ud800"}, "prompt: .* half a character"),
        ('{"answer": "1", "answer": "2"}', "the line is broken JSON .a field is written twice"),
        ("[" * 100_000, "the line is broken JSON"),
        (LINE | {"id": "a-0"}, "id: 'a-0' is already line 1's; give it another one"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_remedy(
    tmp_path: Path, line: str | dict[str, Any], complaint: str
) -> None:
    path = write(tmp_path, LINE | {"id": "a-0"}, line)
    with pytest.raises(BadInput, match=rf"prompts\.jsonl:2: {complaint}"):
        read_prompts(path)


def test_the_answer_of_a_rubric_is_its_criterion(tmp_path: Path) -> None:
    line = LINE | {"scorer": "rubric", "answer": "names the source of each claim"}
    assert read_prompts(write(tmp_path, line)) == (Prompt(**line),)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_reference_that_is_no_mathematics_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, LINE | {"scorer": "math"}, LINE | {"id": "a-2", "scorer": "math", "answer": "\\frac{"})
    with pytest.raises(
        BadInput, match=r"prompts\.jsonl:2: answer: .* is no answer for the scorer math .write a number"
    ):
        read_prompts(path)


@pytest.mark.slow
def test_math_without_its_package_is_named_when_the_set_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('No module named math_verify')")
    monkeypatch.syspath_prepend(tmp_path)
    worker().close()  # one that runs has the package already
    with pytest.raises(BadInput, match=r'jsonl:1: scorer: .* `pip install "math-verify\[antlr4_13_2\]"`'):
        read_prompts(write(tmp_path, LINE | {"scorer": "math"}))


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
