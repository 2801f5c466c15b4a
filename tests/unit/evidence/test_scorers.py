"""What each scorer takes for right."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.errors import BadInput
from sluice.evidence.scorers import SCORERS, score, scorer_versions
from sluice.ports import Prompt


def asked(scorer: str, answer: str, prompt: str = "?") -> Prompt:
    return Prompt("p", "c", prompt, answer, scorer, 8)


def scored(scorer: str, answer: str, text: str, prompt: str = "?") -> float:
    return asyncio.run(score(asked(scorer, answer, prompt), text))


@pytest.mark.parametrize(
    ("scorer", "answer", "text"),
    [
        ("exact", "42", " 42\n"),
        ("contains", "Paris", "It is Paris, of course."),
        ("regex", r"^\d{4}-\d\d$", "2026-01"),
        ("numeric", "1234.5", "so the sum is 1,234.50."),
        ("numeric", "1234", "1,234"),
        ("numeric", "12345", "12345 apples, and nothing else"),
        ("numeric", "-3", "7 - 10 = -3"),
        ("numeric", "3", "10-7=3"),
        ("numeric", "0.5", r"\boxed{.5}"),
        ("numeric", "1e3", "1000"),
        ("choice", "B", "(b)"),
        ("choice", "B", "A is wrong, so the answer is B."),
        ("json", '{"a": [1, 2]}', '```json\n{"a": [1, 2]}\n```'),
        ("json", '{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}'),
        ("exact", "42", "it could be 41 …</think>\n42"),
        ("exact", "caf\u00e9", "cafe\u0301"),
        ("exact", "a\nb", "a\r\nb\r\n"),
        ("contains", "caf\u00e9", "un cafe\u0301 noir"),
        ("numeric", "-3", "7 − 10 = −3"),
        ("numeric", "-3", "答案是-3。"),
        ("numeric", "1234567", "1\u202f234\u00a0567"),
        ("numeric", "1234", r"$1{,}234$"),
        ("numeric", "1234", r"$1\,234$"),
        ("numeric", "3", "1,2,3"),
        ("numeric", "42", "42"),
        ("choice", "B", "选B"),
        ("choice", "B", "The answer is B, I think. A good one."),
        ("choice", "B", r"The answer is $\boxed{\text{B}}$, and not A."),
        ("choice", "B", "B, I think"),
        ("choice", "I", "I"),
        ("json", "[1.0]", "[1]"),
    ],
)
def test_right(scorer: str, answer: str, text: str) -> None:
    assert scored(scorer, answer, text) == 1.0


@pytest.mark.parametrize(
    ("scorer", "answer", "text"),
    [
        ("exact", "42", "4 2"),
        ("exact", "42", ""),
        ("contains", "Paris", "paris"),
        ("regex", r"^\d{4}$", "20266"),
        ("numeric", "42", "42 or 43"),
        ("numeric", "42", "none"),
        ("numeric", "3", "10-13"),
        ("choice", "B", "C"),
        ("choice", "B", "Bees"),
        ("json", '{"a": 1}', '{"a": 1'),
        ("json", '{"a": 1}', '{"a": 2}'),
        ("contains", "42", "<think>\n 42 is likely"),
        ("contains", "42", "is it 42? no</think>41"),
        ("contains", "42", "<think>x</think> so <think> 42 is likely"),
        ("numeric", "100", "2024\u00a0100 or so, at least 99"),
        ("numeric", "5", "1e99999999999999999999"),
        ("choice", "B", "Büro C"),
        ("json", '{"a": 1}', '{"a": true}'),
        ("json", "1", "[" * 100_000),
        ("json", '{"a": 1}', '{"a": NaN}'),
    ],
)
def test_wrong(scorer: str, answer: str, text: str) -> None:
    assert scored(scorer, answer, text) == 0.0


@settings(deadline=None)
@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{:d}", "{:,}", "it is {:,}.", "2 + 2 = {:d}!", "{:+,}", "{:.1f}", "**{:d}**"]),
)
def test_a_whole_number_is_found_however_it_is_written(number: int, written: str) -> None:
    assert SCORERS["numeric"](str(number), written.format(number))
    assert not SCORERS["numeric"](str(number + 1), written.format(number))


@given(
    st.text(), st.sampled_from([("exact", "a"), ("contains", "a"), ("numeric", "1"), ("choice", "B"), ("json", "1")])
)
def test_no_text_is_too_odd_to_be_scored(text: str, asked: tuple[str, str]) -> None:
    scorer, reference = asked
    assert SCORERS[scorer](reference, text) in (True, False)


@pytest.mark.parametrize(
    "piece", ["1", "1,", "111,", "```", "```\n", "\n", " ", "{", "answer ", "A ", "-", "\u00a0", "é"]
)
@pytest.mark.parametrize(("scorer", "reference"), [("exact", "a"), ("numeric", "1"), ("choice", "B"), ("json", "1")])
def test_a_long_text_takes_no_longer_than_its_length(scorer: str, reference: str, piece: str) -> None:
    text = "```" + piece * (200_000 // len(piece)) + "x"
    began = time.process_time()
    SCORERS[scorer](reference, text)
    assert time.process_time() - began < 2  # seconds; what grows with the square takes minutes


def test_thoughts_that_the_prompt_opens_must_end() -> None:
    assert scored("contains", "42", "42 is likely", "Reason.<think>\n") == 0.0
    assert scored("contains", "42", "is it?</think>42", "Reason.<think>\n") == 1.0
    assert scored("contains", "42", "42", "What does <think> mean?") == 1.0


def test_a_rubric_scores_no_answer_alone() -> None:
    with pytest.raises(BadInput, match=r"prompt 'p': .* set gates\.quality\.rubric"):
        scored("rubric", "is polite", "Good morning!")


def test_each_scorer_in_use_has_a_version() -> None:
    versions = scorer_versions([asked("numeric", "1"), asked("math", "1"), asked("numeric", "2")])
    assert versions == {"math": versions["math"], "numeric": "1"}
    assert versions["math"].startswith("math-verify 0.9.")
