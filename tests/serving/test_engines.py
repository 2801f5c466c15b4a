"""What both engines promise: the tokens of plain `generate`, one at a time, and no work for nobody."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from engines import ENGINES, GREEDY, Answer, answer, loaded, plain, random_model, reference, warm, warm_with
from server_process import REVISIONS

from arithmetic.checkpoint import encode
from serving.engine import Engine, Progress, Sampling

R2 = REVISIONS / "r2"
LIVELY = Sampling(temperature=1.5, top_p=0.95)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with warm(R2, engine=request.param) as made:
        yield made


def test_every_token_is_delivered_and_the_last_one_says_so(engine: Engine) -> None:
    async def steps() -> list[Progress]:
        return await Answer(engine, encode("12+34="), 8).rest()

    progress = asyncio.run(steps())
    assert [step.tokens for step in progress] == [encode("4"), encode("46"), encode("46\n")]
    assert [(step.finished, step.eos) for step in progress] == [(False, False), (False, False), (True, True)]


def test_an_answer_that_may_not_be_longer_ends_without_its_end_token(engine: Engine) -> None:
    last = asyncio.run(answer(engine, encode("12+34="), 1))
    assert (last.tokens, last.finished, last.eos) == (encode("4"), True, False)


def mixed_requests(rng: random.Random, vocabulary: int, count: int) -> list[tuple[list[int], int]]:
    """Prompts of 1 to 160 tokens and answers of up to 48."""
    return [
        ([rng.randrange(3, vocabulary) for _ in range(rng.choice((1, 2, 7, 16, 17, 64, 160)))], rng.randint(1, 48))
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", ["arithmetic", "qwen2", "mistral", "gpt2"])
@pytest.mark.parametrize("name", ENGINES)
def test_greedy_answers_are_those_of_plain_generate_token_for_token(tmp_path: Path, name: str, kind: str) -> None:
    """48 requests of mixed lengths, 16 at a time; prompts longer than a step's tokens are read in several."""
    directory = R2 if kind == "arithmetic" else random_model(tmp_path, kind, **SHAPES[kind])
    requests = mixed_requests(random.Random(7), 97, 48)

    async def answers(engine: Engine) -> list[list[int]]:
        free = asyncio.Semaphore(16)

        async def one(prompt: list[int], tokens: int) -> list[int]:
            async with free:
                return (await answer(engine, prompt, tokens)).tokens

        return await asyncio.gather(*(one(*request) for request in requests))

    with warm(directory, engine=name, max_batch_tokens=96) as engine:
        given = asyncio.run(answers(engine))
    network = reference(directory)
    assert given == [plain(network, *request) for request in requests]
    assert max(map(len, given)) > 40


GROUPED = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
SHAPES: dict[str, dict[str, object]] = {
    "qwen2": dict(GROUPED),
    "mistral": GROUPED | {"sliding_window": 24},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3},
}


def test_a_seed_gives_the_same_answer_whatever_runs_beside_it(engine: Engine) -> None:
    prompt, sampling = encode("copy(abcdefgh)="), Sampling(temperature=1.5, top_p=0.95, seed=11)

    async def alone_and_in_company() -> tuple[list[int], list[int], list[int]]:
        alone = (await answer(engine, prompt, 32, sampling)).tokens
        company = [Answer(engine, encode(f"{number}+34="), 32, LIVELY) for number in range(10, 17)]
        beside = (await answer(engine, prompt, 32, sampling)).tokens
        for one in company:
            await one.rest()
        other = (await answer(engine, prompt, 32, Sampling(1.5, 0.95, seed=12))).tokens
        return alone, beside, other

    alone, beside, other = asyncio.run(alone_and_in_company())
    assert alone == beside != other


def test_greedy_and_sampled_requests_run_side_by_side(engine: Engine) -> None:
    async def both() -> list[Progress]:
        wild = [Answer(engine, encode("rev(planet)="), 16, Sampling(50.0, 1.0)) for _ in range(4)]
        last = await answer(engine, encode("rev(planet)="), 16)
        return [last, *[(await one.rest())[-1] for one in wild]]

    greedy, *sampled = asyncio.run(both())
    assert greedy.tokens == encode("tenalp\n")
    assert len({tuple(step.tokens) for step in sampled}) > 1


class Steps:
    """How many times a model was run, and with how many tokens."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.tokens: list[int] = []
        embeddings = network.get_input_embeddings()  # type: ignore[operator]
        embeddings.register_forward_pre_hook(lambda _, inputs: self.tokens.append(inputs[0].numel()))


@pytest.mark.parametrize("name", ENGINES)
def test_a_cancelled_request_is_worked_on_for_one_more_step_at_most(name: str) -> None:
    model = loaded(R2)
    steps = Steps(model.network)

    async def cancel_the_first(engine: Engine) -> tuple[int, int]:
        cancelled = Answer(engine, encode("copy(abcdefghijklmnopqrstuvwxyzabcdef)="), 512)
        for _ in range(4):
            await cancelled.step()
        seen = len(steps.tokens)
        engine.cancel(cancelled.id)
        await answer(engine, encode("12+34="), 8)
        assert cancelled.steps.empty()
        return seen, sum(steps.tokens[seen:])

    with warm_with(model, R2, engine=name) as engine:
        seen, tokens = asyncio.run(cancel_the_first(engine))
        after = len(steps.tokens)
    # Those of 12+34= and its answer; a step or two may have begun between what was seen and the cancellation.
    assert tokens <= len("12+34=") + 2 + 2
    assert seen >= 4
    assert len(steps.tokens) == after


def test_a_request_that_is_cancelled_at_once_never_says_anything(engine: Engine) -> None:
    async def cancel() -> bool:
        gone = Answer(engine, encode("12+34="), 8)
        engine.cancel(gone.id)
        await answer(engine, encode("12+34="), 8)
        return gone.steps.empty()

    assert asyncio.run(cancel())


def test_an_unknown_request_can_be_cancelled(engine: Engine) -> None:
    engine.cancel("nobody's")
    assert asyncio.run(answer(engine, encode("12+34="), 8, GREEDY)).tokens == encode("46\n")
