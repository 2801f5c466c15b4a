"""Which engine runs a model, and what the settings and the directory say of how."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import torch
from engines import Answer, answer, loaded, plain, random_model, reference, score, settings, silent, warm
from server_process import REVISIONS

from arithmetic.checkpoint import encode
from serving.batching import BatchingEngine
from serving.config import ConfigError
from serving.engine import Engine, Sampling
from serving.generating import GeneratingEngine
from serving.loading import choose_engine, load_engine
from serving.model_dir import ModelDirError, check_model_dir

R2 = REVISIONS / "r2"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2}
UNBATCHABLE: dict[str, dict[str, object]] = {
    "mamba": dict(SMALL, initializer_range=0.5),
    "jamba": dict(
        SMALL,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,
        num_experts=2,
    ),
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "rotary_dim": 8},
}
"""State-space models, which the manager refuses; and one whose attention it would run, and get wrong tokens of."""


@pytest.fixture(scope="module", params=UNBATCHABLE)
def unbatchable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp(request.param), request.param, **UNBATCHABLE[request.param])


def test_auto_generates_one_by_one_where_requests_cannot_run_together(unbatchable: Path) -> None:
    prompts = [encode("12+34="), encode("rev(planet)="), encode("1")]

    async def answers(engine: Engine) -> list[list[int]]:
        return [last.tokens for last in await asyncio.gather(*(answer(engine, prompt, 12) for prompt in prompts))]

    with warm(unbatchable) as engine:
        assert isinstance(engine, GeneratingEngine)
        assert engine.concurrency == 1
        given = asyncio.run(answers(engine))
    network = reference(unbatchable)
    assert given == [plain(network, prompt, 12) for prompt in prompts]


def test_what_cannot_be_batched_can_be_scored(unbatchable: Path) -> None:
    text = encode("12+34=46\n" * 30)
    with warm(unbatchable) as engine:
        scored = asyncio.run(score(engine, text, top=2))
    with torch.no_grad():
        expected = reference(unbatchable)(torch.tensor([text]), use_cache=False).logits[0].log_softmax(-1)
    assert scored.error is None
    assert [one.logprob for one in scored.tokens] == pytest.approx(
        [expected[at, token].item() for at, token in enumerate(text[1:])], abs=1e-4
    )


def test_batching_what_cannot_be_batched_is_refused_with_the_remedy(unbatchable: Path) -> None:
    with pytest.raises(ConfigError, match=r"SERVING_ENGINE='batching'.* set it to auto or generate"):
        load_engine(settings(unbatchable, engine="batching"), silent)


def test_auto_runs_requests_together_where_it_can() -> None:
    with warm(R2) as engine:
        assert isinstance(engine, BatchingEngine)
        assert engine.concurrency is None


def test_the_phases_of_the_start_are_told_and_which_engine_runs() -> None:
    told: list[tuple[str, str]] = []
    load_engine(settings(R2), lambda phase, detail="": told.append((phase, detail))).stop()
    assert [phase for phase, _ in dict.fromkeys(told)] == [
        *["loading the weights"] * 11,
        "engine batching",
        "warming up",
    ]
    assert told[0][1] == "0.0015 GB"
    assert told[10][1] == "100 %"


def test_one_request_waits_for_another_where_they_cannot_run_together() -> None:
    async def order(engine: Engine) -> list[str]:
        ends: list[str] = []

        async def one(name: str, running: Answer) -> None:
            await running.rest()
            ends.append(name)

        first = Answer(engine, encode("copy(abcdefghijklmnopqrstuvwxyzabcdef)="), 48)
        await asyncio.gather(one("long", first), one("short", Answer(engine, encode("1+1="), 8)))
        return ends

    with warm(R2, engine="generate") as engine:
        assert asyncio.run(order(engine)) == ["long", "short"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Sampling(0.7, 0.8)),
        ({"temperature": 0.2}, Sampling(0.2, 0.8)),
        ({"top_p": 0.5}, Sampling(0.7, 0.5)),
        ({"temperature": 0, "top_p": 1}, Sampling(0, 1)),
    ],
)
def test_the_settings_win_over_generation_config(tmp_path: Path, given: dict[str, object], expected: Sampling) -> None:
    directory = changed(tmp_path, "generation_config.json", do_sample=True, temperature=0.7, top_p=0.8)
    engine = choose_engine(loaded(directory), settings(directory, engine="generate", **given), silent)
    assert engine.default_sampling == expected


def changed(tmp_path: Path, file: str, **entries: object) -> Path:
    """r2 with other entries in one of its JSON files."""
    directory = tmp_path / "changed"
    shutil.copytree(R2, directory)
    path = directory / file
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return directory


def test_other_entries_of_generation_config_change_no_answer(tmp_path: Path) -> None:
    """Both engines give a request what it asks for, and nothing that one of them could not give."""
    directory = changed(tmp_path, "generation_config.json", repetition_penalty=50.0, max_new_tokens=1)
    for name in ("batching", "generate"):
        with warm(directory, engine=name) as engine:
            assert asyncio.run(answer(engine, encode("11+11="), 8)).tokens == encode("22\n")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["batching", "generate"])
def test_weights_have_the_dtype_of_the_settings(name: str, dtype: str) -> None:
    with warm(R2, engine=name, dtype=dtype) as engine:
        assert engine.dtype == dtype
        assert asyncio.run(answer(engine, encode("12+34="), 8)).tokens == encode("46\n")


def test_half_precision_is_float32_on_a_cpu_unless_it_is_asked_for(tmp_path: Path) -> None:
    directory = changed(tmp_path, "config.json", dtype="float16")
    engine = choose_engine(loaded(directory), settings(directory, engine="generate"), silent)
    assert engine.dtype == ("float16" if torch.cuda.is_available() else "float32")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused_with_the_remedy(tmp_path: Path, file: str) -> None:
    directory = changed(tmp_path, file, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    with pytest.raises(ModelDirError, match=f"{file}: auto_map .* never run here; take the entry out if"):
        check_model_dir(directory)


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    directory = tmp_path / "pickled"
    shutil.copytree(R2, directory)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelDirError, match=r"pytorch_model.bin is a pickle.* convert the weights to safetensors"):
        check_model_dir(directory)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    directory = random_model(tmp_path, "gptj", **UNBATCHABLE["gptj"] | {"vocab_size": 50})
    with pytest.raises(ModelDirError, match="the tokenizer has 98 tokens, the model knows 50"):
        loaded(directory)
