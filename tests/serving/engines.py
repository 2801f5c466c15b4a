"""Engines without a server: made, asked, and looked at."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from arithmetic.checkpoint import NEWLINE, VOCABULARY, new_tokenizer
from serving.config import Settings
from serving.engine import Engine, Progress, Sampling, Scores
from serving.loading import choose_engine, load_engine
from serving.model import LoadedModel, load_model

GREEDY = Sampling(temperature=0, top_p=1)
ENGINES = ("batching", "generate")
TEN_SECONDS = 10
_ids = itertools.count()


def silent(phase: str, detail: str = "") -> None:
    """Nobody reads how far the start has come."""


def settings(directory: Path, **values: object) -> Settings:
    return Settings.model_validate({"model_dir": directory, "kv_cache_tokens": 4096} | values)


@contextmanager
def warm(directory: Path, **values: object) -> Iterator[Engine]:
    """An engine as the server has it."""
    made = load_engine(settings(directory, **values), silent)
    yield made
    made.stop()


@contextmanager
def warm_with(model: LoadedModel, directory: Path, **values: object) -> Iterator[Engine]:
    """An engine of a model that a test watches."""
    made = choose_engine(model, settings(directory, **values), silent)
    made.warm_up()
    yield made
    made.stop()


def loaded(directory: Path) -> LoadedModel:
    return load_model(settings(directory), silent)


def random_model(directory: Path, kind: str, **config: object) -> Path:
    """A model of a kind that transformers knows, of random weights, with the tokenizer of `arithmetic`."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(VOCABULARY), "eos_token_id": VOCABULARY[NEWLINE], "bos_token_id": None}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape | config))
    model.save_pretrained(directory)
    new_tokenizer().save_pretrained(directory)
    return directory


class Answer:
    """A request under way."""

    def __init__(self, engine: Engine, prompt: list[int], max_tokens: int, sampling: Sampling = GREEDY) -> None:
        self.id = f"request {next(_ids)}"
        self.steps: asyncio.Queue[Progress] = asyncio.Queue()
        engine.submit(self.id, prompt, max_tokens, sampling, self.steps.put_nowait)

    async def step(self) -> Progress:
        return await asyncio.wait_for(self.steps.get(), TEN_SECONDS)

    async def rest(self) -> list[Progress]:
        steps = [await self.step()]
        while not steps[-1].finished:
            steps.append(await self.step())
        return steps


async def answer(engine: Engine, prompt: list[int], max_tokens: int, sampling: Sampling = GREEDY) -> Progress:
    """The last step of a request."""
    return (await Answer(engine, prompt, max_tokens, sampling).rest())[-1]


async def score(engine: Engine, text: list[int], *, top: int = 0) -> Scores:
    scores: asyncio.Queue[Scores] = asyncio.Queue()
    engine.score(f"scoring {next(_ids)}", text, top, scores.put_nowait)
    return await asyncio.wait_for(scores.get(), TEN_SECONDS)


def reference(directory: Path) -> Any:
    """The model by transformers alone."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def plain(network: Any, prompt: list[int], max_tokens: int) -> list[int]:
    """The greedy answer of transformers' `generate`."""
    text = torch.tensor([prompt])
    whole = network.generate(
        text,
        attention_mask=torch.ones_like(text),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=VOCABULARY[NEWLINE],
        pad_token_id=0,
    )
    return [int(token) for token in whole[0, len(prompt) :]]
