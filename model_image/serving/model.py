"""A model directory in memory, and what both engines tell of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from serving import memory
from serving.config import Settings
from serving.engine import EngineDead, Report, Sampling
from serving.model_dir import ModelDirError


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, its tokenizer, and the settings it came with."""

    network: Any
    tokenizer: Any
    defaults: GenerationConfig
    """As they are in the directory; the network itself has none left that could change what a request asks for."""


class Card:
    """What an engine tells of its model: these attributes of `engine.Engine`."""

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        config = model.network.config.get_text_config()
        self.tokenizer: Tokenizer = model.tokenizer.backend_tokenizer
        self.chat_template: str | dict[str, str] | None = model.tokenizer.chat_template
        # A state-space model knows no positions, and so no end of its context but that of the memory.
        positions = getattr(config, "max_position_embeddings", None)
        self.context_tokens: int = settings.kv_cache_tokens if positions is None else positions
        self.dtype = str(model.network.dtype).removeprefix("torch.")
        self.default_sampling = default_sampling(model.defaults, settings)
        self.stop_tokens = _stop_tokens(model.defaults.eos_token_id)


def load_model(settings: Settings, report: Report) -> LoadedModel:
    """Read the model directory; raises ModelDirError if it is not a model that can be served."""
    torch.set_num_threads(settings.threads)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    network = _network(settings, report)
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.model_dir, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, all of them because of what is in the directory
        raise ModelDirError(f"{settings.model_dir}: the tokenizer cannot be read: {_first_line(error)}") from error
    known = len(network.get_input_embeddings().weight)
    if len(tokenizer) > known:
        raise ModelDirError(
            f"{settings.model_dir}: the tokenizer has {len(tokenizer)} tokens, the model knows {known}; "
            "they are not of the same revision, fetch it again"
        )
    defaults, network.generation_config = network.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    return LoadedModel(network, tokenizer, defaults)


def default_sampling(defaults: GenerationConfig, settings: Settings) -> Sampling:
    """Of a request that says nothing: the settings', else generation_config's, else greedy."""
    sampled = bool(defaults.do_sample)
    temperature = (1.0 if defaults.temperature is None else defaults.temperature) if sampled else 0.0
    top_p = defaults.top_p if sampled and defaults.top_p else 1.0
    return Sampling(
        temperature if settings.temperature is None else settings.temperature,
        top_p if settings.top_p is None else settings.top_p,
    )


def _network(settings: Settings, report: Report) -> Any:
    directory = settings.model_dir
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = logging.set_tqdm_hook(lambda tqdm, args, options: _reported(tqdm, args, options, report))
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=_dtype(settings.dtype, device),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        network, loading = loaded
        network.to(device)
    except Exception as error:  # of many kinds, and unless memory ran out because of what is in the directory
        if memory.ran_out(error):
            raise EngineDead(
                "the weights do not fit the memory; give the server more, or a smaller SERVING_DTYPE"
            ) from error
        raise ModelDirError(f"{directory}: transformers cannot load it: {_first_line(error)}") from error
    finally:
        logging.set_tqdm_hook(before)
    # transformers fills what is missing with random numbers and goes on.
    broken = sorted(str(name) for name in [*loading["missing_keys"], *loading["mismatched_keys"]])
    if broken:
        raise ModelDirError(
            f"{directory}: weights missing or of another shape: {', '.join(broken[:3])}; fetch it again"
        )
    return network.eval().requires_grad_(False)


def _dtype(wanted: str, device: str) -> torch.dtype | str:
    if wanted == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def _reported(tqdm: Any, args: tuple[Any, ...], options: dict[str, Any], report: Report) -> Any:
    """Where transformers would draw a progress bar over the weights: say each tenth instead."""
    if not args or options.get("desc") != "Loading weights":
        return tqdm(*args, **options)
    return _tenths(list(args[0]), report)


def _tenths(weights: list[Any], report: Report) -> Iterator[Any]:
    said = 0
    for number, one in enumerate(weights):
        yield one
        share = 10 * (number + 1) // len(weights)
        if share > said:
            said = share
            report("loading the weights", f"{10 * share} %")


def _stop_tokens(eos: int | list[int] | None) -> frozenset[int]:
    return frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
