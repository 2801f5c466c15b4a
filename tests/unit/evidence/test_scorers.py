"""What each scorer takes for right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.evidence.scorers import score
from sluice.ports import Prompt


def scored(scorer: str, answer: str, text: str) -> float:
    return score(Prompt("p", "c", "?", answer, scorer, 8), text)


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
    assert scored("numeric", str(number), written.format(number)) == 1.0
    assert scored("numeric", str(number + 1), written.format(number)) == 0.0
