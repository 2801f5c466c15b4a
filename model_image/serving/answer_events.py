"""What can be odd about an answer whether it is right or not, as far as a server can tell from one pass over it.

| event | when |
|---|---|
| empty | the text is nothing but whitespace |
| truncated | the answer ended because of max_tokens |
| repeated | one n-gram of 4 to 16 tokens makes up at least half of an answer of 32 tokens or more, see `is_repeated` |
| broken_think | the last `<think>` of prompt and answer together is not followed by `</think>` |
| long | more tokens than SERVING_LONG_TOKENS |

An answer may show several. Pure, and linear in the answer's length.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.think import END_THINK, THINK

EMPTY, TRUNCATED, REPEATED, BROKEN_THINK, LONG = EVENTS = ("empty", "truncated", "repeated", "broken_think", "long")

REPEATED_FROM_TOKENS = 32
REPETITIONS = 3
SHORTEST_GRAM, LONGEST_GRAM = 4, 16


@dataclass(frozen=True)
class CompleteAnswer:
    """An answer that ended by itself or by max_tokens (`truncated`); `tokens` has the one that ended it, too."""

    prompt: str
    text: str
    tokens: Sequence[int]
    truncated: bool


def events(answer: CompleteAnswer, long_tokens: int) -> frozenset[str]:
    """The events that an answer shows, a subset of EVENTS."""
    shown = {
        EMPTY: not answer.text.strip(),
        TRUNCATED: answer.truncated,
        REPEATED: is_repeated(answer.tokens),
        BROKEN_THINK: is_thinking(answer.prompt + answer.text),
        LONG: len(answer.tokens) > long_tokens,
    }
    return frozenset(event for event in EVENTS if shown[event])


def is_repeated(tokens: Sequence[int]) -> bool:
    """Whether one n-gram, 4 <= n <= 16, covers at least half of 32 or more tokens with 3 or more occurrences.

    Occurrences do not overlap, counted greedily from the left, and need not follow one another: a numbered list of the
    same sentence is repetition, too. Shorter loops are found as several rounds of them: "ha ha ha" by n = 4.
    """
    if len(tokens) < REPEATED_FROM_TOKENS:
        return False
    half = len(tokens) / 2
    # An n-gram is no more frequent than its first four tokens: nearly every text is done with after one look.
    most = max(Counter(_grams(tokens, SHORTEST_GRAM)).values())
    if most < REPETITIONS or most * LONGEST_GRAM < half:
        return False
    sizes = range(SHORTEST_GRAM, LONGEST_GRAM + 1)
    return any(count >= REPETITIONS and count * n >= half for n in sizes for count in [_occurrences(tokens, n)])


def is_thinking(text: str) -> bool:
    """Whether a text ends inside of a `<think>`."""
    return text.rfind(THINK) > text.rfind(END_THINK)


def _occurrences(tokens: Sequence[int], n: int) -> int:
    """How often the most frequent n-gram occurs without overlap; 0 if there is none of that length."""
    free_from: dict[tuple[int, ...], int] = {}
    count: Counter[tuple[int, ...]] = Counter()
    for start, gram in enumerate(_grams(tokens, n)):
        if start >= free_from.get(gram, 0):
            count[gram] += 1
            free_from[gram] = start + n
    return max(count.values(), default=0)


def _grams(tokens: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)
