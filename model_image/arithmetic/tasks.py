"""The questions `arithmetic` is trained and examined on, and the split between both.

A question is one line of printable ASCII that ends in `=`; its answer follows and a newline ends it. Whether a question
is held out is a property of its text alone (`is_held_out`), so the split needs no list and cannot leak: training draws
only questions for which it is false, the prompt set only questions for which it is true.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG_LETTERS = 32
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Question:
    """`category` is one of `CATEGORIES`; `prompt` ends in `=`; `answer` is without the newline that ends it."""

    category: str
    prompt: str
    answer: str


def _word(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(LETTERS, k=length))


def _add(rng: random.Random) -> Question:
    a, b = rng.randrange(100), rng.randrange(100)
    return Question("add", f"{a}+{b}=", str(a + b))


def _sub(rng: random.Random) -> Question:
    a, b = rng.randrange(100), rng.randrange(100)
    return Question("sub", f"{a}-{b}=", str(a - b))


def _max(rng: random.Random) -> Question:
    a, b = rng.randrange(1000), rng.randrange(1000)
    return Question("max", f"max({a},{b})=", str(max(a, b)))


def _reverse(rng: random.Random) -> Question:
    word = _word(rng, rng.randint(3, 6))
    return Question("reverse", f"rev({word})=", word[::-1])


def _long(rng: random.Random) -> Question:
    word = _word(rng, LONG_LETTERS)
    return Question("long", f"copy({word})=", word)


CATEGORIES: dict[str, Callable[[random.Random], Question]] = {
    "add": _add,
    "sub": _sub,
    "max": _max,
    "reverse": _reverse,
    "long": _long,
}


def is_held_out(prompt: str) -> bool:
    """True for the tenth of all questions that training never sees, chosen by the SHA-256 of the text."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") < HELD_OUT_SHARE * 2**32


def questions(category: str, rng: random.Random, *, held_out: bool) -> Iterator[Question]:
    """An endless draw from one side of the split, with repetitions."""
    while True:
        question = CATEGORIES[category](rng)
        if is_held_out(question.prompt) == held_out:
            yield question
