"""What is asked: the same requests for every side of a round, other ones in every round.

Free of everything but the standard library: the programs in the model servers' environment read it, too.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SYLLABLES = [f"{consonant}{vowel}" for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]
SECOND_SYLLABLES = 59
PROMPT_TOKENS = (8, 64)
OUTPUT_TOKENS = (8, 128)


@dataclass(frozen=True)
class Ask:
    """One request, greedy; `exact`: the answer has precisely `max_tokens` tokens."""

    prompt: str
    max_tokens: int
    exact: bool


def words() -> list[str]:
    """What prompts for the random model are made of; each is one token, with the space before it."""
    return [f" {first}{second}" for first, second in itertools.product(SYLLABLES, SYLLABLES[:SECOND_SYLLABLES])]


def random_asks(seed: str, count: int) -> list[Ask]:
    """Words for the random model, with lengths of prompts and answers drawn evenly from their ranges."""
    rng, known = random.Random(seed), words()
    return [
        Ask("".join(rng.choices(known, k=rng.randint(*PROMPT_TOKENS))), rng.randint(*OUTPUT_TOKENS), exact=True)
        for _ in range(count)
    ]


def questions(prompts: Path) -> list[Ask]:
    """The questions of a prompt set."""
    rows = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Ask(row["prompt"], row["max_tokens"], exact=False) for row in rows]


def question_asks(asked: Sequence[Ask], seed: str, count: int) -> list[Ask]:
    """Questions drawn with repetition."""
    return random.Random(seed).choices(asked, k=count)
