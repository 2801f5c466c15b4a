"""The engine on its own: what it keeps from transformers' manager is not optional."""

import asyncio
from collections.abc import Iterator

import pytest
import torch
from server_process import REVISIONS, wait_for

from arithmetic.checkpoint import encode, load
from serving.batching import BatchingEngine
from serving.config import Settings
from serving.engine import EngineDead, Progress, Sampling, Scores
from serving.scoring import PASS_TOKENS

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


async def score(engine: BatchingEngine, text: str, *, request_id: str = "scoring", top: int = 0) -> Scores:
    scores: asyncio.Queue[Scores] = asyncio.Queue()
    engine.score(request_id, engine.tokenizer.encode(text).ids, top, scores.put_nowait)
    return await asyncio.wait_for(scores.get(), 10)


def test_a_text_of_several_passes_has_the_scores_of_a_plain_forward_pass(engine: BatchingEngine) -> None:
    text = "12+34=46\nrev(planet)=tenalp\n" * 30
    assert len(text) > 3 * PASS_TOKENS
    scored = asyncio.run(score(engine, text, top=3)).tokens
    expected = forward(text)
    assert [one.logprob for one in scored] == pytest.approx(
        [expected[at, token].item() for at, token in enumerate(encode(text)[1:])], abs=1e-4
    )
    assert [[token for token, _ in one.top] for one in scored] == expected[:-1].topk(3).indices.tolist()
    best = [logprob for one in scored for _, logprob in one.top]
    assert best == pytest.approx(expected[:-1].topk(3).values.flatten().tolist(), abs=1e-4)


def forward(text: str) -> torch.Tensor:
    """Log-probabilities of what follows each character, by transformers alone."""
    torch.set_num_threads(1)
    with torch.no_grad():
        logits: torch.Tensor = load(REVISIONS / "r2")(torch.tensor([encode(text)])).logits
    return logits[0].log_softmax(-1)


def test_a_text_of_one_token_has_nothing_to_predict(engine: BatchingEngine) -> None:
    assert asyncio.run(score(engine, "1")) == Scores((), None)


def test_scoring_and_generation_at_the_same_time_change_nothing_of_each_other(engine: BatchingEngine) -> None:
    text = "max(17,230)=230\n" * 40
    alone = asyncio.run(score(engine, text))

    async def both() -> list[Scores]:
        scoring = asyncio.gather(*(score(engine, text, request_id=f"scoring {number}") for number in range(8)))
        answers = 0
        while not scoring.done():
            assert engine.tokenizer.decode((await generate(engine, "12+34="))[-1].tokens) == "46"
            answers += 1
        assert answers > 1, "generation waited for all of the scoring"
        return await scoring

    assert asyncio.run(both()) == [alone] * 8


def test_a_cancelled_scoring_delivers_nothing_and_lets_the_next_one_through(engine: BatchingEngine) -> None:
    delivered: list[Scores] = []

    async def cancel_two_of_three() -> None:
        for request_id in ("a", "b"):
            engine.score(request_id, [3] * 1000, 0, delivered.append)
        await asyncio.sleep(0)
        engine.cancel("a")
        engine.cancel("b")
        assert len((await score(engine, "1+1=2")).tokens) == 4

    asyncio.run(cancel_two_of_three())
    assert delivered == []


def test_a_request_beyond_the_cache_kills_the_engine_which_is_noticed(engine: BatchingEngine) -> None:
    assert engine.failure is None
    (last,) = asyncio.run(generate(engine, "1" * 100))
    assert last.error is not None
    wait_for(lambda: engine.failure is not None, 5)
    with pytest.raises(EngineDead):
        asyncio.run(generate(engine, "1+1="))
    assert asyncio.run(score(engine, "1+1=2")).error is not None
