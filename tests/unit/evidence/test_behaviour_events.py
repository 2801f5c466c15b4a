"""Which events an answer shows, and which it does not."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.evidence.behaviour import REFUSALS, events
from sluice.policy import BEHAVIOUR_EVENTS
from sluice.ports import Answer, Prompt

PROSE = (
    "The river rises in the hills above the town, and runs for ninety miles before it meets the sea. Along its banks "
    "there are mills, most of them in ruins, a few turned into houses; the last one that still grinds flour opens its "
    "doors on Sundays. Whoever walks the whole way needs five days, good boots, and patience with the cows."
)


def shown(
    text: str,
    prompt: str = "Say something.",
    reference: str = "",
    scorer: str = "exact",
    *,
    finish_reason: str = "stop",
    completion_tokens: int = 8,
    error: str = "",
) -> set[str]:
    answer = Answer(text, finish_reason, 3, completion_tokens, 0.1, 0.01, 0.2, error)
    return set(events(Prompt("p", "c", prompt, reference, scorer, 64), answer, long_tokens=100))


@pytest.mark.parametrize("text", ["42", PROSE, "<think>a</think>b", "I can do that.", "x" * 150, '{"a": 1}'])
def test_a_plain_answer_shows_nothing(text: str) -> None:
    assert shown(text) == set()


def test_an_answer_with_an_error_shows_nothing() -> None:
    assert shown("", finish_reason="length", completion_tokens=999, error="HTTP 503") == set()


@pytest.mark.parametrize("text", ["", " \n\t", "<think>hm</think>\n"])
def test_empty(text: str) -> None:
    assert shown(text) == {"empty"}


def test_truncated_and_long() -> None:
    assert shown("42", finish_reason="length") == {"truncated"}
    assert shown("42", completion_tokens=101) == {"long"}
    assert shown("42", completion_tokens=100) == set()


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200,
        "no " * 32,
        "I said that I would come. " * 8,
        "".join(f"{number}. I am sorry. " for number in range(20)),
        PROSE[:150] + " and so on" * 30,
        "我不知道该说什么才好。" * 20,
        PROSE * 3,
    ],
)
def test_repeated(text: str) -> None:
    assert "repeated" in shown(text, prompt="")


@pytest.mark.parametrize(
    "text",
    [
        "no " * 31,
        "a" * 199,
        PROSE + " " + PROSE,
        PROSE + " ha" * 20,
        " ".join(map(str, range(200))),
        "\n".join(f'{{"id": {number}, "name": "n{number * 7}"}},' for number in range(40)),
        "x =" + " " * 400 + "1",
    ],
)
def test_not_repeated(text: str) -> None:
    assert "repeated" not in shown(text, prompt="")


@given(st.text(min_size=1, max_size=300), st.integers(4, 9))
def test_a_loop_of_any_text_is_repeated(piece: str, rounds: int) -> None:
    text = " ".join(f"{piece} ".split()) + " "
    whole = text * max(rounds, 400 // len(text))
    assert not text.strip() or "repeated" in shown(whole, prompt="")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "**I’m sorry**, no.",
        "<think>Hm, they ask for it.</think>\n\nI cannot assist.",
        "Es tut mir leid, das geht nicht.",
        "抱歉,我不能回答这个问题。",
        "К сожалению, я не могу помочь.",
        *REFUSALS,
    ],
)
def test_refusal(text: str) -> None:
    assert "refusal" in shown(text, prompt="")


@pytest.mark.parametrize("text", ["I can.", "I cannot assist. " + PROSE * 2, "Sorry to hear that! Try this.", "42"])
def test_no_refusal(text: str) -> None:
    assert "refusal" not in shown(text)


@pytest.mark.parametrize(
    ("prompt", "reference", "text"),
    [
        ("What is the capital of France?", "Paris", "法国的首都是巴黎"),
        ("What is the capital of France?", "Paris", "The capital is 巴黎市法国 now"),
        ("Какой город столица Франции?", "", "The capital is Paris."),
        ("1+1= (in words)", "two", "ответ два"),
        ("日本の首都はどこですか", "", "The capital is Tokyo."),
        ("What is it?", "", "<think>It is two.</think>答案是二没错"),
    ],
)
def test_language_switch(prompt: str, reference: str, text: str) -> None:
    assert shown(text, prompt, reference) == {"language_switch"}


@pytest.mark.parametrize(
    ("prompt", "reference", "text"),
    [
        ("1+1=", "2", "два, конечно"),
        ("Translate to Russian: good day", "добрый день", "добрый день"),
        ("What is 1+1?", "2", "2 ½ ≈ 3 👍"),
        ("法国的首都是哪里?", "巴黎", "是巴黎。"),
        ("法国的首都是哪里?", "", "B"),
        ("Решите уравнение", "", r"Ответ: $x = \frac{alpha}{beta}$"),
        ("写一个函数", "", "如下所示:\n```python\ndef add(one, other): return one + other\n```"),
        ("Who was he?", "", "Сергей (Sergey) was a man of great learning and of some patience too."[8:]),
        ("What is it?", "", "𝐀𝐁𝐂𝐃𝐄𝐅 and µm"),
        ("日本の首都はどこですか", "", "東京です。トーキョー"),
        ("What?", "", "full widths"),
    ],
)
def test_no_language_switch(prompt: str, reference: str, text: str) -> None:
    assert "language_switch" not in shown(text, prompt, reference)


@pytest.mark.parametrize("text", ["{", "Here it is: {}", "{'a': 1}", "", "<think>{}", "NaN", "[" * 100_000])
def test_invalid_json(text: str) -> None:
    assert "invalid_json" in shown(text, reference="{}", scorer="json")
    assert "invalid_json" not in shown(text, reference="{}")


@pytest.mark.parametrize("text", ['{"b": 2}', '```json\n{"b": 2}\n```', "<think>{</think>[]"])
def test_valid_json_that_is_wrong_shows_nothing(text: str) -> None:
    assert shown(text, reference="{}", scorer="json") == set()


@pytest.mark.parametrize("text", ["<think>hm", "<think>a</think>b</think>c", "<think>a</think>b<think>c"])
def test_broken_think(text: str) -> None:
    assert shown(text) == {"broken_think"}


def test_thoughts_that_the_prompt_opened_must_end() -> None:
    assert shown("hm</think>42", prompt="Reason.<think>\n") == set()
    assert shown("hm", prompt="Reason.<think>\n") == {"broken_think"}


@given(st.text(), st.text(), st.text(), st.sampled_from(["exact", "json", "rubric"]))
def test_no_text_is_too_odd_to_be_looked_at(prompt: str, reference: str, text: str, scorer: str) -> None:
    assert shown(text, prompt, reference, scorer) <= set(BEHAVIOUR_EVENTS)


@pytest.mark.parametrize(
    "piece",
    ["a", "a ", "ab", "`", "```", "$", "\\", "<think>", "</think>", "https://", "[", "\n", "```\n", "答", "\u0300"],
)
def test_a_long_answer_takes_no_longer_than_its_length(piece: str) -> None:
    began = time.process_time()
    shown(piece * (200_000 // len(piece)), prompt="{}", scorer="json")
    assert time.process_time() - began < 4  # seconds; what grows with the square takes minutes


def test_a_long_answer_without_a_pattern_takes_no_longer_than_its_length() -> None:
    text = "".join(random.Random(1).choices("abcdefghij ", k=200_000))
    began = time.process_time()
    assert shown(text, prompt="") == set()
    assert time.process_time() - began < 4
