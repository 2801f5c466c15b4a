"""Choosing tokens from a model's scores, alike for both engines.

Each request brings its own random numbers, so that what runs beside it does not change its answer. The chosen token is
marked as the one with the largest score: engines take that one, and a greedy request's scores stay as they are.
"""

import random

import torch
from transformers import LogitsProcessor
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.requests import FutureRequestState
from transformers.generation.logits_process import LogitsProcessorList

from serving.engine import GREEDY_BELOW_TEMPERATURE, Sampling

LIKELY_TOKENS = 256
"""So many are looked through first; they nearly always hold the share top_p."""


class Draws:
    """How a request's tokens are chosen, and its random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = 0.0 if sampling.greedy else float(sampling.temperature)
        self._top_p = float(sampling.top_p)
        self._rng = random.Random(sampling.seed)

    def next(self) -> tuple[float, float, float]:
        """For the next token: temperature (0: the most likely one), top_p, and a number of [0, 1)."""
        return self._temperature, self._top_p, self._rng.random()


class OneSampler(LogitsProcessor):
    """For `generate`, of a single request."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        temperature, top_p, number = torch.tensor([self._draws.next()], device=scores.device).T
        return mark_chosen(scores, temperature, top_p, number)  # type: ignore[return-value]


class BatchSampler(ContinuousBatchingLogitsProcessorList):
    """For the batching manager, whose requests bring their `draws`. Numbers travel as int32, as all its inputs do."""

    def __init__(self) -> None:
        super().__init__(LogitsProcessorList())
        self.tensors_required = 3
        self.supported_keys = {"draws": Draws}
        self.do_processing = True

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(
        self, requests_in_batch: list[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        draws = [one.state.logit_processor_kwargs["draws"].next() for one in requests_in_batch if one.has_new_token]
        if draws:
            arg_storage[:, : len(draws)] = torch.tensor(draws, dtype=torch.float32).T.contiguous().view(torch.int32)
        return arg_storage

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.Tensor, logits_processor_args: torch.Tensor
    ) -> torch.Tensor:
        temperature, top_p, number = logits_processor_args[:, : scores.shape[0]].view(torch.float32)
        return mark_chosen(scores, temperature, top_p, number)


def mark_chosen(
    scores: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor
) -> torch.Tensor:
    """The scores, in place, (rows, vocabulary), with the chosen token's infinite in rows with a temperature."""
    if scores.device.type != "cpu":
        # The manager may record a step and play it again: what is done must not depend on what the rows ask for.
        probabilities = (scores / temperature.clamp(min=GREEDY_BELOW_TEMPERATURE).unsqueeze(1)).softmax(-1)
        drawn = draw(*probabilities.sort(descending=True), top_p, number)
        chosen = torch.where(temperature > 0, drawn, scores.argmax(-1))
        return scores.scatter_(1, chosen.unsqueeze(1), float("inf"))
    rows = temperature.nonzero().squeeze(1)
    if len(rows):
        probabilities = (scores[rows] / temperature[rows].unsqueeze(1)).softmax(-1)
        scores[rows, _draw_likely(probabilities, top_p[rows], number[rows])] = float("inf")
    return scores


def draw(probabilities: torch.Tensor, tokens: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """One token of each row, among the fewest that hold the share `top_p`; by number, uniform in [0, 1).

    Args:
        probabilities: (rows, candidates), the most likely one first.
        tokens: their ids.
    """
    below = probabilities.cumsum(-1)
    candidates = (below - probabilities < top_p.unsqueeze(1)).sum(-1, keepdim=True)
    share = torch.where(top_p.unsqueeze(1) < 1, below.gather(1, candidates - 1), 1)
    place = (below <= number.unsqueeze(1) * share).sum(-1, keepdim=True).minimum(candidates - 1)
    return tokens.gather(1, place).squeeze(1)


def _draw_likely(probabilities: torch.Tensor, top_p: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """`draw`, that puts a row's whole vocabulary into order only where the most likely tokens do not decide."""
    likely = probabilities.topk(min(LIKELY_TOKENS, probabilities.shape[1]))
    tokens = draw(likely.values, likely.indices, top_p, number)
    undecided = (likely.values.sum(-1) <= torch.where(top_p < 1, top_p, number)).nonzero().squeeze(1)
    if len(undecided):
        everything = probabilities[undecided].sort(descending=True)
        tokens[undecided] = draw(everything.values, everything.indices, top_p[undecided], number[undecided])
    return tokens
