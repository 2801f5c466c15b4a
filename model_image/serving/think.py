"""Parts a reasoning model's answer into its reasoning and what it says: `<think>` … `</think>`. Pure, piece by piece.

A model's template may write `<think>` into the prompt already; then the answer holds only `</think>`. An answer to such
a prompt, or one that begins with `<think>` itself, is reasoning up to the first `</think>`, and content after it. Any
other answer is content as it is. White space around the two marks belongs to neither part.
"""

from typing import NamedTuple

THINK, END_THINK = "<think>", "</think>"


class Parts(NamedTuple):
    """A piece of each; both may be empty."""

    reasoning: str
    content: str


def opens_think(prompt: str) -> bool:
    """Whether an answer to this prompt begins inside of a `<think>`."""
    return prompt.rstrip().endswith(THINK)


class ThinkSplitter:
    """Takes an answer in pieces. However it is cut up, all parts together are the same."""

    def __init__(self, *, opened: bool) -> None:
        self._opened = opened
        self._take = self._begin
        self._held = ""
        self.thinks = opened
        """Whether the answer has a reasoning part, as far as it is known."""

    def push(self, text: str) -> Parts:
        """What of the answer so far is certain, and was not given before."""
        return self._take(text)

    def flush(self) -> Parts:
        """What was held back, when no more comes."""
        held, self._held = self._held, ""
        if not self.thinks:
            return Parts("", held)
        return Parts(held.lstrip() if self._take == self._begin else held, "")

    def _begin(self, text: str) -> Parts:
        """Nothing but white space and the beginning of a `<think>` so far."""
        self._held += text
        begun = self._held.lstrip()
        if begun != THINK and THINK.startswith(begun):
            return Parts("", "")
        if begun.startswith(THINK):
            self.thinks, begun = True, begun[len(THINK) :]
        elif not self._opened:
            begun, self._held, self._take = self._held, "", self._say
            return Parts("", begun)
        self._held, self._take = "", self._reason_first
        return self._reason_first(begun)

    def _reason_first(self, text: str) -> Parts:
        text = text.lstrip()
        if not text:
            return Parts("", "")
        self._take = self._reason
        return self._reason(text)

    def _reason(self, text: str) -> Parts:
        text = self._held + text
        reasoning, end, content = text.partition(END_THINK)
        if end:
            self._held, self._take = "", self._say_first
            return Parts(reasoning.rstrip(), self._say_first(content).content)
        certain = text[: len(text) - _begun_mark(text)].rstrip()
        self._held = text[len(certain) :]
        return Parts(certain, "")

    def _say_first(self, text: str) -> Parts:
        text = text.lstrip()
        if text:
            self._take = self._say
        return Parts("", text)

    def _say(self, text: str) -> Parts:
        return Parts("", text)


def _begun_mark(text: str) -> int:
    """Length of the longest end of `text` that begins an END_THINK."""
    lengths = range(len(END_THINK) - 1, 0, -1)
    return next((length for length in lengths if text.endswith(END_THINK[:length])), 0)
