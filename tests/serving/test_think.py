"""An answer's reasoning and its content are the same however the answer is cut up."""

from random import Random

import pytest

from serving.think import END_THINK, THINK, Parts, ThinkSplitter, opens_think


def by_definition(text: str, opened: bool) -> Parts:
    """The rule as it is written, on the whole answer."""
    begun = text.lstrip()
    if not opened and not begun.startswith(THINK):
        return Parts("", text)
    reasoning, end, content = begun.removeprefix(THINK).lstrip().partition(END_THINK)
    return Parts(reasoning.rstrip(), content.lstrip()) if end else Parts(reasoning, "")


def split(pieces: list[str], opened: bool) -> Parts:
    splitter = ThinkSplitter(opened=opened)
    parts = [splitter.push(piece) for piece in pieces]
    parts.append(splitter.flush())
    return Parts("".join(part.reasoning for part in parts), "".join(part.content for part in parts))


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "content"),
    [
        ("46", False, "", "46"),
        ("because\n</think>\n\n46", True, "because", "46"),
        ("<think>\nbecause\n</think>\n\n46", False, "because", "46"),
        ("<think>because</think>46", True, "because", "46"),
        ("</think>46", True, "", "46"),
        ("because, as", True, "because, as", ""),
        ("46</think>47", False, "", "46</think>47"),
        ("see <think>this</think>", False, "", "see <think>this</think>"),
        (" 46 ", False, "", " 46 "),
        ("a</think>b</think>c", True, "a", "b</think>c"),
        ("<thin", False, "", "<thin"),
        ("a </thi", True, "a </thi", ""),
    ],
)
def test_what_comes_before_the_end_of_thinking_is_reasoning(
    text: str, opened: bool, reasoning: str, content: str
) -> None:
    assert split([text], opened) == by_definition(text, opened) == (reasoning, content)


def test_an_answer_may_be_cut_up_anywhere() -> None:
    rng = Random(7)
    atoms = ["<think>", "</think>", "<", "/", "think", ">", " ", "\n", "a", "b", "</", "<thi"]
    for _ in range(5000):
        text = "".join(rng.choices(atoms, k=rng.randrange(12)))
        cuts = sorted(rng.choices(range(len(text) + 1), k=rng.randrange(8)))
        pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        for opened in (False, True):
            assert split(pieces, opened) == by_definition(text, opened), (pieces, opened)


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    splitter = ThinkSplitter(opened=True)
    pieces = ["so", " it", " <", "3", "\n", "</th", "ink>", "\n\n", "46"]
    assert [splitter.push(piece) for piece in pieces] == [
        *[("so", ""), (" it", ""), ("", ""), (" <3", ""), ("", ""), ("", ""), ("", ""), ("", ""), ("", "46")]
    ]


@pytest.mark.parametrize(
    ("prompt", "opens"), [("Why?<think>\n", True), ("<think>\n\n</think>\n\n", False), ("What is <think>?", False)]
)
def test_a_prompt_opens_thinking_if_it_ends_with_the_mark(prompt: str, opens: bool) -> None:
    assert opens_think(prompt) is opens


def test_only_an_answer_that_thinks_has_a_reasoning_part() -> None:
    opened, itself, neither = (ThinkSplitter(opened=opened) for opened in (True, False, False))
    itself.push("<think>hm")
    neither.push("46")
    assert (opened.thinks, itself.thinks, neither.thinks) == (True, True, False)
