"""What counts as an odd answer."""

import random
from collections.abc import Sequence

import pytest

from serving.answer_events import CompleteAnswer, events, is_repeated, is_thinking


def shown(text: str, *, prompt: str = "1+1=", truncated: bool = False, long_tokens: int = 1024) -> frozenset[str]:
    """Events of an answer with one token a character."""
    return events(CompleteAnswer(prompt, text, [ord(character) for character in text], truncated), long_tokens)


def test_an_ordinary_answer_shows_no_event() -> None:
    assert shown("The sum is two, as far as anybody can tell without a proof.") == frozenset()


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_whitespace_is_empty(text: str) -> None:
    assert shown(text) == {"empty"}


def test_an_answer_may_show_several_events() -> None:
    assert shown("<think>" + "hm, " * 20, truncated=True, long_tokens=86) == {
        "truncated",
        "repeated",
        "broken_think",
        "long",
    }


def test_long_is_more_than_the_limit() -> None:
    assert shown("abcd", long_tokens=4) == frozenset()
    assert shown("abcde", long_tokens=4) == {"long"}


def unlike(count: int) -> list[int]:
    """So many tokens of which none occurs twice, and none occurs elsewhere."""
    return list(range(1000, 1000 + count))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3, 4] * 8, True),
        ([1, 2, 3, 4] * 7 + [1, 2, 3], False),
        ([7] * 32, True),
        ([1, 2, 3] * 11, True),
        (list(range(16)) * 3, True),
        (list(range(32)) * 8, True),
        (list(range(33)) * 8, False),
        (list(range(16)) * 2, False),
        ([1, 2, 3, 4] * 4 + unlike(16), True),
        ([1, 2, 3, 4] * 4 + unlike(17), False),
        (unlike(500) + [1, 2, 3, 4, 5] * 100, True),
        ([token for number in range(9) for token in (100 + number, 1, 2, 3, 4)], True),
    ],
    ids=[
        "from 32 tokens",
        "not below 32 tokens",
        "one token",
        "a short loop",
        "the longest n-gram",
        "half of a longer loop",
        "less than half of a longer loop",
        "twice is not over and over",
        "half of it",
        "less than half of it",
        "after a good beginning",
        "a list with a counter between",
    ],
)
def test_repeated_means_half_of_it_is_one_n_gram(tokens: Sequence[int], expected: bool) -> None:
    assert is_repeated(tokens) is expected


def test_the_quick_look_at_four_tokens_misses_nothing() -> None:
    rng = random.Random(3)
    for _ in range(300):
        size, gram = rng.randint(32, 96), [rng.randrange(3) for _ in range(rng.randint(2, 18))]
        tokens = [rng.randrange(50) if rng.random() < 0.3 else gram[at % len(gram)] for at in range(size)]
        assert is_repeated(tokens) is by_definition(tokens)


def by_definition(tokens: list[int]) -> bool:
    """The rule as it is written, without a thought for speed."""

    def occurrences(gram: list[int]) -> int:
        count = at = 0
        while at + len(gram) <= len(tokens):
            found = tokens[at : at + len(gram)] == gram
            count, at = count + found, at + (len(gram) if found else 1)
        return count

    counts = [(n, occurrences(tokens[at : at + n])) for n in range(4, 17) for at in range(len(tokens) - n + 1)]
    return any(count >= 3 and 2 * count * n >= len(tokens) for n, count in counts)


@pytest.mark.parametrize(
    ("prompt", "text", "broken"),
    [
        ("Why?", "<think>because", True),
        ("Why?", "<think>because</think>so", False),
        ("Why?<think>\n", "because", True),
        ("Why?<think>\n", "because</think>so", False),
        ("<think>a</think>b. Why?", "because", False),
        ("Why?", "<think>a</think>b<think>c", True),
        ("Why?", "because</think>", False),
    ],
)
def test_thinking_that_does_not_end_is_broken_whoever_began_it(prompt: str, text: str, broken: bool) -> None:
    assert is_thinking(prompt + text) is broken
    assert ("broken_think" in shown(text, prompt=prompt)) is broken
