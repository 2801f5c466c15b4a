"""The engine that runs requests together: transformers' continuous batching.

One thread of its manager runs the model; results come back on the event loop. What the manager does not guard against
is kept away from it: a request larger than the cache would end its thread and a full queue would block the caller, so
`admission` decides before; on a CPU it would size the cache by free memory, so the size is always given; a step without
enough memory would end its thread, so the one request that wants most of it is given up; and it would run models whose
attention ignores its pages, and give wrong tokens, so these are refused.
"""

from collections.abc import Callable
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import (
    FutureRequestState,
    GenerationOutput,
    RequestStatus,
)

from serving import memory
from serving.attention import use_by_request
from serving.config import Settings
from serving.engine import EngineDead, EngineRefused, Progress, Sampling, Scores
from serving.model import Card, LoadedModel
from serving.sampler import BatchSampler, Draws
from serving.scoring import Scorer

PAGE_TOKENS = {"cpu": 16, "cuda": 256}
"""Granularity of the KV cache; flash attention needs pages of 256."""
WARM_UP_TOKENS = 4
WARM_UP_DEADLINE_SECONDS = 120
_STOP_SECONDS = 5


class Manager(ContinuousBatchingManager):
    """transformers' manager, but one that chooses tokens by `sampler` and goes on when memory runs out."""

    def __init__(self, network: Any, generation_config: GenerationConfig, config: ContinuousBatchingConfig) -> None:
        super().__init__(network, generation_config, config)
        self.logit_processor = BatchSampler()

    def _generation_step(self) -> None:
        try:
            super()._generation_step()
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
            self._give_up_largest()

    def _give_up_largest(self) -> None:
        """Of the requests of this step; the others take it again."""
        processor: Any = self.batch_processor
        batch = processor.inputs_and_outputs
        # What follows the step then finds nothing to do.
        step, batch.requests_in_batch, batch.num_request_in_batch = batch.requests_in_batch, [], 0
        for one in step:
            _take_back(one)
        largest = max(step, key=lambda one: (one.query_length, one.state.position_offset))
        processor._handle_request_error(MemoryError(memory.EXPLANATION), largest.state)
        processor.scheduler.finish_request(largest.state.request_id)


class BatchingEngine(Card):
    """A loaded model that generates; ready after `warm_up`."""

    concurrency: int | None = None

    def __init__(self, model: LoadedModel, settings: Settings) -> None:
        """Raises EngineRefused if the manager cannot run this model, EngineDead if its cache needs too much memory."""
        super().__init__(model, settings)
        network = model.network
        self.page_tokens = PAGE_TOKENS[network.device.type]
        self._pad = model.defaults.pad_token_id
        self._manager = _manager(network, self._generation_config(), self._batching_config(settings))
        self._scorer = Scorer(network, settings.max_batch_tokens, self._manager.pause)

    def warm_up(self) -> None:
        """Generate a few tokens; raises EngineDead if none come. Blocking, and only before the first `submit`."""
        self._manager.start()
        self._add("warm-up", [0], WARM_UP_TOKENS, Sampling(0, 1), streaming=False)
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

    def _generation_config(self) -> GenerationConfig:
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, eos_token_id=sorted(self.stop_tokens) or -1, pad_token_id=self._pad
        )

    def _batching_config(self, settings: Settings) -> ContinuousBatchingConfig:
        return ContinuousBatchingConfig(
            page_size=self.page_tokens,
            num_blocks=max(1, settings.kv_cache_tokens // self.page_tokens),
            max_batch_tokens=settings.max_batch_tokens,
            max_requests_per_batch=settings.max_requests_per_batch,
            # One step at a time: of two under way it could not be told which one wanted too much memory.
            use_async_batching=False,
        )

    def _add(self, request_id: str, prompt: list[int], max_tokens: int, sampling: Sampling, *, streaming: bool) -> None:
        accepted = self._manager.add_request(
            prompt, request_id=request_id, max_new_tokens=max_tokens, streaming=streaming, draws=Draws(sampling)
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


def _manager(network: Any, generation_config: GenerationConfig, config: ContinuousBatchingConfig) -> Manager:
    if not network._supports_attention_backend:
        raise EngineRefused(f"the attention of {type(network).__name__} cannot be given pages of keys and values")
    if network.device.type == "cpu":
        use_by_request()
    try:
        manager = Manager(network, generation_config, config)
        # Makes the cache, and before the start: after it there would be a second one beside the thread's.
        manager.warmup()
    except ValueError as error:
        raise EngineRefused(f"{type(network).__name__}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        raise EngineDead("the KV cache does not fit the memory; lower SERVING_KV_CACHE_TOKENS") from error
    return manager


def _take_back(one: FutureRequestState) -> None:
    """Bring a request back to where it was before the step; what it wrote to its pages will be written over."""
    state = one.state
    state.position_offset -= one.query_length
    if state.generated_tokens:
        state.tokens_to_process = state.generated_tokens[-1:]
    else:
        state.status = RequestStatus.PREFILLING
        state.remaining_prefill_tokens = state.initial_tokens[state.position_offset :]
