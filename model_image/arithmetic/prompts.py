"""Writes the prompt set: distinct held-out questions of every category, drawn with a recorded seed.

Run `python -m arithmetic.prompts` in `model_image/`; the file it writes is committed.
"""

import json
import random
from pathlib import Path
from typing import TypedDict

from arithmetic.tasks import CATEGORIES, Question, questions

SEED = 20260101
PROMPTS_PER_CATEGORY = 500
PROMPT_SET = Path(__file__).resolve().parents[2] / "prompts" / "arithmetic.jsonl"
MAX_TOKENS = {"add": 8, "sub": 8, "max": 8, "reverse": 12, "long": 48}
"""Room for the longest answer, the newline that ends it, and a few tokens more, so that a wrong answer may be longer.
"""


class Prompt(TypedDict):
    """One line of a prompt set."""

    id: str
    category: str
    prompt: str
    answer: str
    scorer: str
    max_tokens: int


def _distinct(category: str) -> list[Question]:
    drawn: dict[str, Question] = {}
    for question in questions(category, random.Random(f"{SEED}:{category}"), held_out=True):
        drawn[question.prompt] = question
        if len(drawn) == PROMPTS_PER_CATEGORY:
            return list(drawn.values())
    raise AssertionError("questions() is endless")


def prompt_set() -> list[Prompt]:
    """The prompt set, in the order of the file: category by category."""
    return [
        Prompt(
            id=f"{category}-{number:04d}",
            category=category,
            prompt=question.prompt,
            answer=question.answer,
            scorer="exact",
            max_tokens=MAX_TOKENS[category],
        )
        for category in CATEGORIES
        for number, question in enumerate(_distinct(category))
    ]


def main() -> None:
    PROMPT_SET.parent.mkdir(exist_ok=True)
    PROMPT_SET.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompt_set()))


if __name__ == "__main__":
    main()
