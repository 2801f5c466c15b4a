"""Writes a Qwen2 of 30 million random parameters that never ends an answer by itself, so that lengths are as asked.

`python -m benchmarks.server.random_model DIRECTORY`, in the model servers' environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer  # type: ignore[import-not-found]

from benchmarks.server.workload import SYLLABLES, words

SEED = 30
MAX_POSITIONS = 2048
SPACE = "Ġ"
"""As byte-level tokenizers write it."""


def write(directory: Path) -> int:
    """Write the model and its tokenizer; returns the number of parameters."""
    tokenizer = _tokenizer()
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.do_sample = False
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return sum(parameter.numel() for parameter in model.parameters())


def _tokenizer() -> Qwen2Tokenizer:
    """Syllables of letters, words of a space and two syllables: a token is always text, and a word is one token."""
    letters = sorted({letter for syllable in SYLLABLES for letter in syllable})
    merges = [
        *((syllable[0], syllable[1]) for syllable in SYLLABLES),
        *((SPACE, syllable) for syllable in SYLLABLES),
        *((SPACE + word[1:3], word[3:]) for word in words()),
    ]
    tokens = [SPACE, *letters, *map("".join, merges)]
    return Qwen2Tokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1])):,} parameters")
