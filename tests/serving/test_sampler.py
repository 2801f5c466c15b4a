"""How tokens are chosen: exactly as often as the probabilities say, by each request's own numbers."""

import random
from collections import Counter

import pytest
import torch
from transformers import TopPLogitsWarper

from serving.engine import Sampling
from serving.sampler import LIKELY_TOKENS, Draws, draw, mark_chosen

VOCABULARY = 4 * LIKELY_TOKENS


def scores(rows: int, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(3))


def chosen(given: torch.Tensor, temperature: float, top_p: float, numbers: list[float]) -> list[int]:
    """The tokens of rows with the same settings."""
    rows = torch.tensor([[temperature, top_p, number] for number in numbers]).T
    return mark_chosen(given.clone(), *rows).argmax(-1).tolist()


def test_a_greedy_row_keeps_its_scores() -> None:
    given = scores(3)
    rows = torch.tensor([[0.0, 1.0, 0.5]] * 3).T
    assert torch.equal(mark_chosen(given.clone(), *rows), given)


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 0.9999, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_tokens_come_from_the_nucleus_as_often_as_their_probabilities_say(temperature: float, top_p: float) -> None:
    """Numbers in equal steps instead of random ones: each token's share is exact to a step, and transformers' own."""
    numbers = 20_000
    given = scores(1)
    expected = TopPLogitsWarper(top_p)(torch.empty(0), given / temperature) if top_p < 1 else given / temperature
    steps = [(number + 0.5) / numbers for number in range(numbers)]
    counts = Counter(chosen(given.expand(numbers, -1), temperature, top_p, steps))
    shares = torch.tensor([counts[token] / numbers for token in range(VOCABULARY)])
    assert (shares - expected.softmax(-1)[0]).abs().max() < 2 / numbers


def test_rows_are_chosen_each_by_its_own_settings() -> None:
    given = scores(3)
    alone = [
        chosen(given[:1], 1.0, 1.0, [0.9])[0],
        chosen(given[1:2], 0.0, 1.0, [0.9])[0],
        chosen(given[2:], 2.0, 0.9, [0.3])[0],
    ]
    rows = torch.tensor([[1.0, 1.0, 0.9], [0.0, 1.0, 0.9], [2.0, 0.9, 0.3]]).T
    assert mark_chosen(given.clone(), *rows).argmax(-1).tolist() == alone


def test_a_tiny_share_is_still_one_token() -> None:
    given = scores(1)
    assert chosen(given, 1.0, 1e-6, [0.999999]) == given.argmax(-1).tolist()


def test_the_largest_number_that_float32_can_round_to_chooses_a_token_of_the_nucleus() -> None:
    probabilities, tokens = torch.tensor([[0.5, 0.3, 0.2, 0.0]]), torch.tensor([[7, 5, 3, 1]])
    assert draw(probabilities, tokens, torch.tensor([0.8]), torch.tensor([1.0])).tolist() == [5]


def test_draws_repeat_with_their_seed_only() -> None:
    def numbers(seed: int | None) -> list[float]:
        draws = Draws(Sampling(1, 1, seed))
        return [draws.next()[2] for _ in range(4)]

    assert numbers(5) == numbers(5) != numbers(6)
    assert numbers(None) != numbers(None)
    generator = random.Random(5)
    assert numbers(5) == [generator.random() for _ in range(4)]


def test_a_temperature_too_small_to_divide_by_is_greedy() -> None:
    assert Draws(Sampling(0.001, 0.9)).next()[0] == 0
