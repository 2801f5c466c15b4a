"""From token ids to the text that may be shown: incremental decoding, and stop strings that may span tokens."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextAssembler:
    """Takes the tokens of one answer as they come, gives text that will not change any more.

    With stop strings it holds back a tail that may turn out to be the beginning of one. `stopped` is True once one was
    found; text from there on is dropped.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._decode = DecodeStream(skip_special_tokens=True)
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """Text that these tokens complete; may be empty."""
        if self.stopped:
            return ""
        decoded = "".join(self._decode.step(self._tokenizer, token) or "" for token in ids)
        if not self._stop:
            return decoded
        text = self._held + decoded
        found = [position for position in (text.find(stop) for stop in self._stop) if position >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        held = _possible_start(text, self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        held, self._held = self._held, ""
        return held


def _possible_start(text: str, stop: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a stop string."""
    longest = max(map(len, stop)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in stop):
            return length
    return 0
