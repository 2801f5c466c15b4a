"""Exact match of greedy answers over the prompt set, by category."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import Qwen2ForCausalLM

from arithmetic.checkpoint import NEWLINE, PAD, VOCABULARY, new_tokenizer
from arithmetic.prompts import Prompt

BATCH = 250


@torch.no_grad()
def answers(model: Qwen2ForCausalLM, prompts: Sequence[Prompt]) -> list[str]:
    """Greedy answers, in batches padded on the left."""
    tokenizer = new_tokenizer()
    found: list[str] = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        inputs = tokenizer(
            [prompt["prompt"] for prompt in batch], return_tensors="pt", padding=True, padding_side="left"
        )
        output = model.generate(  # type: ignore[misc]
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max(prompt["max_tokens"] for prompt in batch),
            do_sample=False,
            eos_token_id=VOCABULARY[NEWLINE],
            pad_token_id=VOCABULARY[PAD],
        )
        found += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def accuracy(model: Qwen2ForCausalLM, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Share of exact answers per category, and over all prompts under the key "all"."""
    right: dict[str, list[bool]] = defaultdict(list)
    for prompt, answer in zip(prompts, answers(model, prompts), strict=True):
        for key in (prompt["category"], "all"):
            right[key].append(answer == prompt["answer"])
    return {key: sum(marks) / len(marks) for key, marks in right.items()}
