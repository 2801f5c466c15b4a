"""The object `logprobs` of OpenAI's legacy completions for an echoed prompt. Pure."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import DecodeStream

from serving.engine import TokenScore


def legacy_logprobs(tokenizer: Tokenizer, encoding: Encoding, scores: Sequence[TokenScore]) -> dict[str, Any]:
    """`tokens`, `token_logprobs`, `top_logprobs`, `text_offset`: lists with an entry for each token of the encoding.

    Args:
        encoding: of the prompt.
        scores: of all its tokens but the first, for which nothing is predicted: its log-probabilities are None.

    A token that completes no character, as parts of a rare one do not, is ""; the last part is the character. Offsets
    count characters of the prompt. `top_logprobs` has the text's own token, too, also where it is not among the most
    likely; of other tokens that look alike it has the most likely one.
    """
    tokens = _pieces(tokenizer, encoding.ids)
    following = list(zip(encoding.ids[1:], tokens[1:], scores, strict=True))
    return {
        "tokens": tokens,
        "token_logprobs": [None, *(score.logprob for _, _, score in following)][: len(tokens)],
        "top_logprobs": [None, *(_top(tokenizer, *one) for one in following)][: len(tokens)],
        "text_offset": _offsets(encoding),
    }


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    decode = DecodeStream(skip_special_tokens=False)
    return [decode.step(tokenizer, token) or "" for token in ids]


def _top(tokenizer: Tokenizer, token: int, piece: str, score: TokenScore) -> dict[str, float] | None:
    if not score.top:
        return None
    named: dict[str, float] = {}
    for other, logprob in (*score.top, (token, score.logprob)):
        name = piece if other == token else tokenizer.decode([other], skip_special_tokens=False)
        if other == token or name not in named:
            named[name] = logprob
    return named


def _offsets(encoding: Encoding) -> list[int]:
    # What the tokenizer adds, like a token for the beginning, is not in the text: it stands where the last one ended.
    starts, end = list[int](), 0
    for (start, stop), added in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        starts.append(end if added else start)
        end = end if added else stop
    return starts
