"""The model behind transformers' continuous batching. Only it and `scoring` import torch and transformers.

One thread of the manager runs the model; results come back on the event loop. What the manager does not guard against
is kept away from it: a request larger than the cache would kill its thread and a full queue would block the caller, so
`admission` decides before; on a CPU it would size the cache by free memory, so the size is always given. Sampling
settings are per request only for processors that exist from the start; therefore the manager is created with
temperature, top-k and top-p, and a greedy request is top-k = 1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.utils import logging

from serving.config import Settings
from serving.engine import EngineDead, Progress, Sampling, Scores
from serving.model_dir import ModelDirError
from serving.scoring import Scorer

PAGE_TOKENS = {"cpu": 16, "cuda": 256}
"""Granularity of the KV cache; flash attention needs pages of 256."""
WARM_UP_TOKENS = 4
WARM_UP_DEADLINE_SECONDS = 120
_STOP_SECONDS = 5


class BatchingEngine:
    """A loaded model that generates; made by `load`, ready after `warm_up`."""

    honours_seed = False

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        defaults = model.generation_config
        self.tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self.chat_template: str | dict[str, str] | None = tokenizer.chat_template
        self.context_tokens: int = model.config.max_position_embeddings
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.page_tokens = PAGE_TOKENS[model.device.type]
        sampled = bool(defaults.do_sample)
        self.default_sampling = Sampling(
            temperature=(1.0 if defaults.temperature is None else defaults.temperature) if sampled else 0.0,
            top_p=defaults.top_p if sampled and defaults.top_p else 1.0,
        )
        self.stop_tokens = _eos_tokens(defaults.eos_token_id)
        self._manager: ContinuousBatchingManager = model.init_continuous_batching(
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                do_sample=True,
                temperature=0.5,
                top_k=2,
                top_p=0.5,
                eos_token_id=sorted(self.stop_tokens) or -1,
                pad_token_id=defaults.pad_token_id,
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=self.page_tokens,
                num_blocks=max(1, settings.kv_cache_tokens // self.page_tokens),
                max_batch_tokens=settings.max_batch_tokens,
                max_requests_per_batch=settings.max_requests_per_batch,
                per_request_processors=True,
            ),
        )
        self._vocabulary_size: int = model.config.vocab_size
        self._scorer = Scorer(model, settings.max_batch_tokens, self._manager.pause)

    @classmethod
    def load(cls, settings: Settings) -> "BatchingEngine":
        """Read the model directory; raises ModelDirError if it is not a model that can be served."""
        torch.set_num_threads(settings.threads)
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = _load_model(settings.model_dir).to(device)
        tokenizer = AutoTokenizer.from_pretrained(settings.model_dir, local_files_only=True)
        return cls(model, tokenizer, settings)

    def warm_up(self) -> None:
        """Generate a few tokens; raises EngineDead if none come. Blocking, and only before the first `submit`."""
        # First: after the start it would set up a second processor beside the thread's.
        self._manager.warmup()
        self._manager.start()
        self._add("warm-up", [0], WARM_UP_TOKENS, self.default_sampling, streaming=False)
        output = self._manager.get_result(timeout=WARM_UP_DEADLINE_SECONDS)
        if output is None or output.error is not None:
            raise EngineDead(
                f"the warm-up generation failed: {output.error if output else self.failure or 'no result'}"
            )

    def submit(
        self,
        request_id: str,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        deliver: Callable[[Progress], None],
    ) -> None:
        """Start a request; `deliver` is called on the running event loop for every token. Raises EngineDead."""
        self._manager.register_result_handler(request_id, lambda output: deliver(self._progress(output)))
        try:
            self._add(request_id, prompt, max_tokens, sampling, streaming=True)
        except EngineDead:
            self._forget(request_id)
            raise

    def score(self, request_id: str, text: list[int], top: int, deliver: Callable[[Scores], None]) -> None:
        """Score a text, with the `top` most likely tokens; `deliver` is called once on the running event loop."""
        self._scorer.submit(request_id, text, top, deliver)

    def cancel(self, request_id: str) -> None:
        """Stop working on a request; nothing more is delivered for it."""
        if self._scorer.cancel(request_id):
            return
        self._manager.cancel_request(request_id)
        self._forget(request_id)

    @property
    def failure(self) -> str | None:
        """Why the engine cannot generate any more; None while it can."""
        fatal = self._manager.background_thread_status.fatal_error
        if fatal is not None:
            return str(fatal)
        return None if self._manager.is_running() else "the generation thread has ended"

    def stop(self) -> None:
        """End the thread; requests that still run are lost."""
        self._scorer.stop()
        self._manager.stop(block=True, timeout=_STOP_SECONDS, hard_stop=True)

    def _add(self, request_id: str, prompt: list[int], max_tokens: int, sampling: Sampling, *, streaming: bool) -> None:
        greedy = sampling.greedy
        accepted = self._manager.add_request(
            prompt,
            request_id=request_id,
            max_new_tokens=max_tokens,
            streaming=streaming,
            temperature=1.0 if greedy else float(sampling.temperature),
            top_k=1 if greedy else self._vocabulary_size,
            top_p=1.0 if greedy else float(sampling.top_p),
        )
        if accepted is None:
            raise EngineDead(self.failure or "the engine is stopping")

    def _forget(self, request_id: str) -> None:
        # The manager drops a handler only when its request finishes, which a cancelled one never does.
        self._manager.output_router.result_handlers.pop(request_id, None)

    def _progress(self, output: GenerationOutput) -> Progress:
        tokens = output.generated_tokens
        failed = output.status == RequestStatus.FAILED
        return Progress(
            tokens=tokens,
            finished=output.is_finished(),
            eos=bool(tokens) and tokens[-1] in self.stop_tokens,
            error=(output.error or "the engine gave no reason") if failed else None,
        )


def _load_model(directory: Path) -> Any:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype="auto", attn_implementation="sdpa", local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # of many kinds, all of them because of what is in the directory
        raise ModelDirError(f"{directory}: transformers cannot load it: {_first_line(error)}") from error
    model, loading = loaded
    # transformers fills what is missing with random numbers and goes on.
    broken = sorted(str(name) for name in [*loading["missing_keys"], *loading["mismatched_keys"]])
    if broken:
        raise ModelDirError(
            f"{directory}: weights missing or of another shape: {', '.join(broken[:3])}; fetch it again"
        )
    return model.eval()


def _eos_tokens(eos: int | list[int] | None) -> frozenset[int]:
    return frozenset() if eos is None else frozenset([eos] if isinstance(eos, int) else eos)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
