"""A request that needs more memory than there is fails alone. The memory is really limited, by the kernel."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engines import ENGINES, Answer, answer, plain, random_model, reference, score, warm

from serving import memory
from serving.engine import Engine, EngineDead, Progress, Scores

LONG, SHORT = [7] * 500, [5] * 8
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that needs 128 kB a token for a moment, and a few hundred MB for LONG."""
    return random_model(
        tmp_path_factory.mktemp("wide"),
        "qwen2",
        hidden_size=32,
        intermediate_size=65536,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
    )


@contextmanager
def free_memory(megabytes: int) -> Iterator[None]:
    """This process gets no more than so much beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * MEGABYTE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", ENGINES)
def test_the_request_that_needs_too_much_fails_and_the_others_get_their_answers(wide: Path, name: str) -> None:
    async def both(engine: Engine) -> tuple[Progress, Progress, Progress]:
        running = Answer(engine, SHORT, 40)
        await running.step()
        with free_memory(120):
            failed = await answer(engine, LONG, 8)
            rest = (await running.rest())[-1]
        return failed, rest, await answer(engine, LONG, 8)

    with warm(wide, engine=name) as engine:
        failed, rest, later = asyncio.run(both(engine))
        assert engine.failure is None
    assert (failed.error, failed.tokens) == (memory.EXPLANATION, [])
    network = reference(wide)
    assert [rest.tokens, later.tokens] == [plain(network, SHORT, 40), plain(network, LONG, 8)]


def test_of_the_requests_of_one_step_the_one_with_most_tokens_in_it_fails(wide: Path) -> None:
    async def together(engine: Engine) -> list[Progress]:
        with free_memory(120):
            running = [Answer(engine, prompt, 6) for prompt in (SHORT, LONG, SHORT[:5])]
            return [(await one.rest())[-1] for one in running]

    with warm(wide, engine="batching", max_batch_tokens=1024) as engine:
        given = asyncio.run(together(engine))
    assert [step.error for step in given] == [None, memory.EXPLANATION, None]
    network = reference(wide)
    assert [given[0].tokens, given[2].tokens] == [plain(network, SHORT, 6), plain(network, SHORT[:5], 6)]


@pytest.mark.parametrize("name", ENGINES)
def test_a_text_that_needs_too_much_is_not_scored_and_the_next_one_is(wide: Path, name: str) -> None:
    async def twice(engine: Engine) -> tuple[Scores, Scores]:
        with free_memory(20):
            failed = await score(engine, LONG)
        return failed, await score(engine, LONG)

    with warm(wide, engine=name) as engine:
        failed, scored = asyncio.run(twice(engine))
    assert failed == Scores((), memory.EXPLANATION)
    assert len(scored.tokens) == len(LONG) - 1


def test_a_cache_larger_than_the_memory_is_said_before_anybody_is_served(wide: Path) -> None:
    with (
        free_memory(400),
        pytest.raises(EngineDead, match=r"KV cache .* lower SERVING_KV_CACHE_TOKENS"),
        warm(wide, engine="batching", kv_cache_tokens=4_000_000),
    ):
        pass


def test_weights_larger_than_the_memory_are_no_fault_of_the_directory(wide: Path) -> None:
    with (
        free_memory(10),
        pytest.raises(EngineDead, match=r"weights do not fit the memory.* SERVING_DTYPE"),
        warm(wide),
    ):
        pass


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not memory.ran_out(RuntimeError("index out of range"))
    assert not memory.ran_out(ValueError("out of memory"))
    assert memory.ran_out(
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
    )
