"""The engine on its own: what it keeps from transformers' manager is not optional."""

import asyncio
from collections.abc import Iterator

import pytest
from server_process import REVISIONS, wait_for

from serving.batching import BatchingEngine
from serving.config import Settings
from serving.engine import EngineDead, Progress, Sampling

GREEDY = Sampling(temperature=0, top_p=1)


@pytest.fixture
def engine() -> Iterator[BatchingEngine]:
    made = BatchingEngine.load(Settings(model_dir=REVISIONS / "r2", kv_cache_tokens=32))
    made.warm_up()
    yield made
    made.stop()


async def generate(engine: BatchingEngine, prompt: str) -> list[Progress]:
    progress: asyncio.Queue[Progress] = asyncio.Queue()
    engine.submit("id", engine.tokenizer.encode(prompt).ids, 8, GREEDY, progress.put_nowait)
    steps = [await asyncio.wait_for(progress.get(), 10)]
    while not steps[-1].finished:
        steps.append(await asyncio.wait_for(progress.get(), 10))
    return steps


def test_every_token_is_delivered_and_the_last_one_says_so(engine: BatchingEngine) -> None:
    progress = asyncio.run(generate(engine, "12+34="))
    assert [engine.tokenizer.decode(step.tokens) for step in progress] == ["4", "46", "46"]
    assert [step.finished for step in progress] == [False, False, True]
    assert progress[-1].eos


def test_a_request_beyond_the_cache_kills_the_engine_which_is_noticed(engine: BatchingEngine) -> None:
    assert engine.failure is None
    (last,) = asyncio.run(generate(engine, "1" * 100))
    assert last.error is not None
    wait_for(lambda: engine.failure is not None, 5)
    with pytest.raises(EngineDead):
        asyncio.run(generate(engine, "1+1="))
