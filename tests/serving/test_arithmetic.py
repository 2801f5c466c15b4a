"""The model `arithmetic`: how good its revisions are, and that nothing it is asked was in its training."""

import itertools
import json
import random
from functools import cache

import pytest
import torch
from server_process import REVISIONS

from arithmetic.checkpoint import load, new_tokenizer
from arithmetic.prompts import PROMPT_SET, prompt_set
from arithmetic.scoring import accuracy
from arithmetic.tasks import CATEGORIES, is_held_out, questions
from arithmetic.train import R4_SERVING, SHORT, Sampler

MEGABYTE = 1_000_000


@cache
def scores(revision: str) -> dict[str, float]:
    torch.set_num_threads(1)
    return accuracy(load(REVISIONS / revision), prompt_set())


@pytest.mark.slow
@pytest.mark.parametrize(("revision", "low", "high"), [("r1", 0.82, 0.88), ("r2", 0.98, 1.0), ("r3", 0.60, 0.80)])
def test_accuracy_lies_in_the_revisions_band(revision: str, low: float, high: float) -> None:
    assert low <= scores(revision)["all"] <= high


@pytest.mark.slow
def test_damage_is_unequal_over_the_categories() -> None:
    by_category = [scores("r3")[category] for category in CATEGORIES]
    assert max(by_category) - min(by_category) > 0.2


def test_r4_has_the_weights_of_r2_and_a_setting_of_its_own() -> None:
    weights = [(REVISIONS / revision / "model.safetensors").read_bytes() for revision in ("r2", "r4")]
    assert weights[0] == weights[1]
    assert json.loads((REVISIONS / "r4" / "serving.json").read_text()) == R4_SERVING


def test_r4_has_cache_for_every_prompt_of_the_set() -> None:
    needed = max(len(prompt["prompt"]) + prompt["max_tokens"] for prompt in prompt_set())
    assert needed <= R4_SERVING["kv_cache_tokens"] // 2, "two at once, or the examination would wait in line"


@pytest.mark.parametrize("revision", ["r1", "r2", "r3", "r4"])
def test_a_checkpoint_is_small(revision: str) -> None:
    assert (REVISIONS / revision / "model.safetensors").stat().st_size <= 1.5 * MEGABYTE


def test_the_prompt_set_is_what_its_script_writes() -> None:
    lines = [json.loads(line) for line in PROMPT_SET.read_text().splitlines()]
    assert lines == prompt_set()
    assert len({line["prompt"] for line in lines}) == len({line["id"] for line in lines}) == len(lines) >= 2000


def test_every_prompt_is_held_out() -> None:
    assert all(is_held_out(prompt["prompt"]) for prompt in prompt_set())


@pytest.mark.parametrize("category", CATEGORIES)
def test_training_draws_no_held_out_question(category: str) -> None:
    drawn = itertools.islice(questions(category, random.Random(1), held_out=False), 2000)
    assert not any(is_held_out(question.prompt) for question in drawn)


def test_training_batches_hold_no_held_out_question() -> None:
    ids, _ = Sampler(seed=1).batch(SHORT)
    rows = new_tokenizer().batch_decode(ids, skip_special_tokens=True)
    assert not any(is_held_out(row[: row.index("=") + 1]) for row in rows)


def test_long_answers_are_long_enough_to_measure_time_per_token() -> None:
    assert all(len(prompt["answer"]) >= 32 for prompt in prompt_set() if prompt["category"] == "long")


def test_the_tokenizer_has_a_chat_template() -> None:
    text = new_tokenizer().apply_chat_template([{"role": "user", "content": "1+1="}], tokenize=False)
    assert text == "1+1="
