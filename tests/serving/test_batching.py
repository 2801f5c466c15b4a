"""The engine that runs requests together: what it keeps from transformers' manager is not optional."""

import asyncio
from collections.abc import Iterator

import pytest
import torch
from engines import answer, score, warm
from server_process import REVISIONS, wait_for

from arithmetic.checkpoint import encode, load
from serving.engine import Engine, EngineDead, Scores
from serving.scoring import PASS_TOKENS


@pytest.fixture
def engine() -> Iterator[Engine]:
    with warm(REVISIONS / "r2", engine="batching", kv_cache_tokens=32) as made:
        yield made


def test_a_text_of_several_passes_has_the_scores_of_a_plain_forward_pass(engine: Engine) -> None:
    text = "12+34=46\nrev(planet)=tenalp\n" * 30
    assert len(text) > 3 * PASS_TOKENS
    scored = asyncio.run(score(engine, encode(text), top=3)).tokens
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


def test_a_text_of_one_token_has_nothing_to_predict(engine: Engine) -> None:
    assert asyncio.run(score(engine, encode("1"))) == Scores((), None)


def test_scoring_and_generation_at_the_same_time_change_nothing_of_each_other(engine: Engine) -> None:
    text = encode("max(17,230)=230\n" * 40)
    alone = asyncio.run(score(engine, text))

    async def both() -> list[Scores]:
        scoring = asyncio.gather(*(score(engine, text) for _ in range(8)))
        answers = 0
        while not scoring.done():
            assert (await answer(engine, encode("12+34="), 8)).tokens == encode("46\n")
            answers += 1
        assert answers > 1, "generation waited for all of the scoring"
        return await scoring

    assert asyncio.run(both()) == [alone] * 8


def test_a_cancelled_scoring_delivers_nothing_and_lets_the_next_one_through(engine: Engine) -> None:
    delivered: list[Scores] = []

    async def cancel_two_of_three() -> None:
        for request_id in ("a", "b"):
            engine.score(request_id, [3] * 1000, 0, delivered.append)
        await asyncio.sleep(0)
        engine.cancel("a")
        engine.cancel("b")
        assert len((await score(engine, encode("1+1=2"))).tokens) == 4

    asyncio.run(cancel_two_of_three())
    assert delivered == []


def test_a_request_beyond_the_cache_kills_the_engine_which_is_noticed(engine: Engine) -> None:
    assert engine.failure is None
    assert asyncio.run(answer(engine, encode("1" * 100), 8)).error is not None
    wait_for(lambda: engine.failure is not None, 5)
    with pytest.raises(EngineDead):
        asyncio.run(answer(engine, encode("1+1="), 8))
    assert asyncio.run(score(engine, encode("1+1=2"))).error is not None
