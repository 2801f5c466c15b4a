"""What is odd about an answer, whether it is right or not: the events of `sluice.policy.BEHAVIOUR_EVENTS`.

Each rule can be wrong about a single answer, and says how. The events are compared between two versions that answer the
same prompts, where such mistakes weigh alike on both sides. All rules take time in proportion to the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from sluice.evidence.scorers import answer_in, json_in
from sluice.policy import BehaviourEvent
from sluice.ports import Answer, Prompt

_LOOP_WORDS = 32
_LOOP_CHARACTERS = 200
_REFUSAL_CHARACTERS = 400
_LANGUAGE_LETTERS = 5
_FOREIGN_SHARE = 0.2

REFUSALS = (
    # English
    "i'm sorry", "i am sorry", "sorry,", "i apologize", "i apologise", "my apologies", "i can't", "i cannot",
    "i can not", "i'm unable", "i am unable", "i'm not able", "i am not able", "i won't", "i will not", "as an ai",
    "unfortunately, i can", "i must decline",
    # German, French, Spanish, Portuguese, Italian
    "es tut mir leid", "tut mir leid", "leider kann ich", "ich kann leider", "ich kann nicht", "ich kann dir nicht",
    "ich kann ihnen nicht", "als ki",
    "je suis désolé", "désolé", "je ne peux pas", "je ne suis pas en mesure", "en tant qu'ia",
    "lo siento", "no puedo", "lamento", "como ia", "sinto muito", "desculpe", "não posso", "mi dispiace", "non posso",
    # Russian
    "извините", "простите", "к сожалению, я не", "я не могу", "как ии",
    # Chinese, Japanese, Korean
    "抱歉", "很抱歉", "对不起", "對不起", "我无法", "我無法", "我不能", "作为一个人工智能", "作为ai",
    "申し訳", "すみません", "ごめんなさい", "お答えできません", "죄송", "미안",
    # Arabic, Hindi
    "عذرا", "آسف", "أعتذر", "لا أستطيع", "क्षमा करें", "माफ़ करें", "मैं नहीं",
)  # fmt: skip
"""How refusals begin, whatever the case and the kind of apostrophes."""

_SCRIPTS = frozenset(
    (
        *("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "ARMENIAN", "GEORGIAN", "ETHIOPIC", "DEVANAGARI"),
        *("BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "THAI"),
        *("LAO", "TIBETAN", "MYANMAR", "KHMER", "MONGOLIAN", "CJK", "HANGUL", "KANA"),
    )
)
_ONE_SCRIPT = {"HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}
# Code and formulas are Latin in any language. Unclosed, they are left in the text.
_NO_LANGUAGE = re.compile(r"```[^`]*```|`[^`\n]*`|\$[^$\n]*\$|\\[A-Za-z]+|https?://\S+")


def events(prompt: Prompt, answer: Answer, *, long_tokens: int) -> frozenset[BehaviourEvent]:
    """The events that an answer shows; none for one with `error`, which counts as failed and not as odd.

    `long_tokens`: answers of more tokens are `long`.
    """
    if answer.error:
        return frozenset()
    shown: Mapping[BehaviourEvent, Callable[[], bool]] = {
        "empty": lambda: empty(prompt, answer.text),
        "repeated": lambda: repeated(answer.text),
        "truncated": lambda: answer.finish_reason == "length",
        "refusal": lambda: refusal(prompt, answer.text),
        "language_switch": lambda: language_switch(prompt, answer.text),
        "invalid_json": lambda: invalid_json(prompt, answer.text),
        "broken_think": lambda: broken_think(prompt, answer.text),
        "long": lambda: answer.completion_tokens > long_tokens,
    }
    return frozenset(event for event, is_shown in shown.items() if is_shown())


def empty(prompt: Prompt, text: str) -> bool:
    """Nothing but blanks, or nothing after the thoughts. Right all the same where silence was asked for."""
    answer = answer_in(prompt, text)
    return not text.strip() if answer is None else not answer.strip()


def repeated(text: str) -> bool:
    """At least half of a text of 32 words, or of 200 characters, is one loop, three rounds or more.

    Wrong about what loops by nature: a matrix of zeros, a refrain. Loops whose rounds differ in more than a number
    or two, and loops in less than half of the text, are not seen.
    """
    words = text.split()
    written = " ".join(words)  # tables and code repeat blanks
    return (len(words) >= _LOOP_WORDS and any(_loops(words, size) for size in (2, 4))) or (
        len(written) >= _LOOP_CHARACTERS and _loops(written, 8)
    )


def _loops(items: Sequence[str], size: int) -> bool:
    """Do half of the n-grams of `size` items come again at one and the same distance, the length of a round?"""
    last: dict[str | tuple[str, ...], int] = {}
    distances: Counter[int] = Counter()
    for start in range(len(items) - size + 1):
        piece = items[start : start + size]
        gram = piece if isinstance(piece, str) else tuple(piece)
        if gram in last:
            distances[start - last[gram]] += 1
        last[gram] = start
    again = {length: count + size - 1 for length, count in distances.items()}  # items, and not the n-grams' starts
    return any(count >= 2 * length and 2 * (count + length) >= len(items) for length, count in again.items())


def refusal(prompt: Prompt, text: str) -> bool:
    """At most 400 characters after the thoughts, which begin with one of `REFUSALS`.

    Wrong about short answers that begin like one (`I cannot find an error in it.`); refusals in other words or
    languages, or after an introduction, are not seen.
    """
    answer = (answer_in(prompt, text) or "").strip()
    if len(answer) > _REFUSAL_CHARACTERS:
        return False
    return _folded(answer).lstrip(" *_\"'“«„>").startswith(tuple(map(_folded, REFUSALS)))


@lru_cache(maxsize=len(REFUSALS) + 1)
def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def language_switch(prompt: Prompt, text: str) -> bool:
    """Most letters are of another script than most of the prompt's and of the reference answer's, or a fifth are of
    scripts that occur in neither. After the thoughts; code, formulas and links are left out; not below 5 letters.

    Wrong about prompts that ask for another script (a translation) unless the reference shows it. Two languages of one
    script (German, English) are one to it.
    """
    answer = answer_in(prompt, text)
    scripts = _letters_by_script(text if answer is None else answer)
    sources = [source for source in map(_letters_by_script, (prompt.prompt, _shown_reference(prompt))) if source]
    if not sources or scripts.total() < _LANGUAGE_LETTERS:
        return False
    foreign = scripts.total() - sum(scripts[script] for script in set().union(*sources))
    usual = {source.most_common(1)[0][0] for source in sources}
    return scripts.most_common(1)[0][0] not in usual or foreign >= _FOREIGN_SHARE * scripts.total()


def _shown_reference(prompt: Prompt) -> str:
    """A criterion or a pattern is no answer and has its own language."""
    return "" if prompt.scorer in ("rubric", "regex") else prompt.answer


def _letters_by_script(text: str) -> Counter[str]:
    """script → letters; digits, punctuation, symbols and rare scripts are neutral."""
    letters: Counter[str] = Counter()
    for character, count in Counter(_NO_LANGUAGE.sub(" ", text)).items():
        if script := _script(character):
            letters[script] += count
    return letters


@lru_cache(maxsize=8192)
def _script(character: str) -> str:
    """The script by the Unicode name, which begins with it; "" for what is no letter of one in `_SCRIPTS`."""
    words = unicodedata.name(character, "").split() if character.isalpha() else []
    words = [word for word in words if word not in ("FULLWIDTH", "HALFWIDTH")] or [""]
    script = _ONE_SCRIPT.get(words[0], words[0])
    return script if script in _SCRIPTS else ""


def invalid_json(prompt: Prompt, text: str) -> bool:
    """The prompt's scorer is `json`, and what follows the thoughts is no JSON, in a code fence or not.

    JSON between sentences counts as invalid: programs that asked for JSON cannot read it.
    """
    if prompt.scorer != "json":
        return False
    try:
        json_in(answer_in(prompt, text) or "")
    except (ValueError, RecursionError):
        return True
    return False


def broken_think(prompt: Prompt, text: str) -> bool:
    """Thoughts that never end, or end more than once. Wrong about answers that speak of the tags themselves."""
    return answer_in(prompt, text) is None or text.count("</think>") > 1
