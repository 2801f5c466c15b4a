"""Log-probabilities of a text's tokens by name, and the two shapes that OpenAI gives them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import DecodeStream

from serving.engine import TokenScore


@dataclass(frozen=True)
class TokenLogprob:
    """One token in its place."""

    token: str
    """What it adds to the text. Of a character's parts, as rare ones have, all but the last are ""."""
    logprob: float | None
    """Natural; None for the first token of all, which nothing predicts."""
    top: tuple[tuple[str, float], ...]
    """The most likely tokens in this place, best first."""
    offset: int
    """Where it begins in the text, in characters."""


def prompt_logprobs(tokenizer: Tokenizer, encoding: Encoding, scores: Sequence[TokenScore]) -> tuple[TokenLogprob, ...]:
    """Every token of an encoded text; `scores` are of all but the first.

    A token that the tokenizer adds, like one for the beginning, has no place in the text: it stands where the last
    one ended.
    """
    ends = list(_offsets(encoding))
    first, *others = _pieces(tokenizer, encoding.ids)
    following = zip(encoding.ids[1:], others, scores, ends[1:], strict=True)
    return (TokenLogprob(first, None, (), ends[0]), *(_named(tokenizer, *one) for one in following))


def answer_logprobs(tokenizer: Tokenizer, ids: Sequence[int], scores: Sequence[TokenScore]) -> tuple[TokenLogprob, ...]:
    """Every token of an answer, with `scores` of all of them. Special tokens are named, but are not in its text."""
    visible, offsets = DecodeStream(skip_special_tokens=True), [0]
    for token in ids:
        offsets.append(offsets[-1] + len(visible.step(tokenizer, token) or ""))
    places = zip(ids, _pieces(tokenizer, ids), scores, offsets[:-1], strict=True)
    return tuple(_named(tokenizer, *place) for place in places)


def legacy_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`tokens`, `token_logprobs`, `top_logprobs`, `text_offset`: OpenAI's shape for completions.

    `top_logprobs` has the text's own token, too, also where it is not among the most likely; of other tokens that look
    alike it has the most likely one.
    """
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [_by_name(one) for one in tokens],
        "text_offset": [one.offset for one in tokens],
    }


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`content`, a list with `token`, `logprob`, `bytes` and `top_logprobs` of each: OpenAI's shape for chat."""
    content = [
        _entry(one.token, one.logprob) | {"top_logprobs": [_entry(name, logprob) for name, logprob in one.top]}
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(token: str, logprob: float | None) -> dict[str, Any]:
    # Half a character has no bytes of its own: its last part has them all.
    whole = token and "\N{REPLACEMENT CHARACTER}" not in token
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()) if whole else None}


def _by_name(one: TokenLogprob) -> dict[str, float] | None:
    if not one.top or one.logprob is None:
        return None
    named: dict[str, float] = {}
    for name, logprob in one.top:
        named.setdefault(name, logprob)
    return named | {one.token: one.logprob}


def _named(tokenizer: Tokenizer, token: int, piece: str, score: TokenScore, offset: int) -> TokenLogprob:
    def name(other: int) -> str:
        return piece if other == token else tokenizer.decode([other], skip_special_tokens=False)

    return TokenLogprob(piece, score.logprob, tuple((name(other), logprob) for other, logprob in score.top), offset)


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    decode = DecodeStream(skip_special_tokens=False)
    return [decode.step(tokenizer, token) or "" for token in ids]


def _offsets(encoding: Encoding) -> Iterable[int]:
    end = 0
    for (start, stop), added in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        yield end if added else start
        end = end if added else stop
