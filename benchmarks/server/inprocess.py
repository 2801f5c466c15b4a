"""What the model costs without a server: `generate` in a loop, in this process.

`python -m benchmarks.server.inprocess MODEL_DIRECTORY`, in the model servers' environment. Says `ready`, then reads
lines of JSON `[[prompt, max_tokens], …]` and answers each with `{"tokens", "seconds"}`, both of the whole loop.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer  # type: ignore[import-not-found]


def run(model: Any, tokenizer: Any, asks: Sequence[tuple[str, int]]) -> dict[str, float]:
    """Answer all of them, greedily, one after the other, from text to text."""
    tokens, began = 0, time.perf_counter()
    for prompt, max_tokens in asks:
        inputs = tokenizer(prompt, return_tensors="pt")
        answer = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        tokenizer.decode(answer, skip_special_tokens=True)
        tokens += len(answer)
    return {"tokens": tokens, "seconds": time.perf_counter() - began}


def main(directory: str) -> None:
    """Until standard input ends."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).eval()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(model, tokenizer, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
