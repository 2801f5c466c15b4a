"""Log-probabilities of a given text: their shape on the wire, and a request for them as the service sees it."""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from hand_driven import HandService, on_a_loop
from server_process import REVISIONS, ServerProcess, ready, series
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

from arithmetic.checkpoint import encode, load, new_tokenizer
from serving.engine import Scores, TokenScore
from serving.generation import Ending
from serving.logprobs import answer_logprobs, chat_logprobs, legacy_logprobs, prompt_logprobs

ARITHMETIC = new_tokenizer().backend_tokenizer
SCORING: dict[str, object] = {"echo": True, "max_tokens": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ready(REVISIONS / "r2", tmp_path_factory.mktemp("server") / "log", kv_cache_tokens=1024) as process:
        yield process


def expected(text: str) -> torch.Tensor:
    """Natural log-probabilities of what follows each character, by a plain forward pass of transformers."""
    torch.set_num_threads(1)
    with torch.no_grad():
        logits: torch.Tensor = load(REVISIONS / "r2")(torch.tensor([encode(text)])).logits
    return logits[0].log_softmax(-1)


@pytest.mark.parametrize("text", ["12+34=46\n", "rev(planet)=tenalp\nmax(3,141)=141\n" * 25])
def test_log_probabilities_are_those_of_a_plain_forward_pass(server: ServerProcess, text: str) -> None:
    answer = server.complete(text, logprobs=2, **SCORING).json()
    choice, truth = answer["choices"][0], expected(text)
    logprobs = choice["logprobs"]
    assert (choice["text"], choice["finish_reason"]) == (text, "length")
    assert answer["usage"] == {"prompt_tokens": len(text), "completion_tokens": 0, "total_tokens": len(text)}
    assert logprobs["tokens"] == list(text)
    assert logprobs["text_offset"] == list(range(len(text)))
    assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
    given = [truth[at, token].item() for at, token in enumerate(encode(text)[1:])]
    assert logprobs["token_logprobs"][1:] == pytest.approx(given, abs=1e-4)
    for entry, place in zip(logprobs["top_logprobs"][1:], truth, strict=False):
        assert max(entry.values()) == pytest.approx(place.max().item(), abs=1e-4)


def test_without_a_number_of_top_tokens_there_are_none(server: ServerProcess) -> None:
    logprobs = server.complete("1+1=2", logprobs=0, **SCORING).json()["choices"][0]["logprobs"]
    assert logprobs["top_logprobs"] == [None] * 5
    assert [value is None for value in logprobs["token_logprobs"]] == [True] + [False] * 4


def test_a_text_may_fill_the_context_and_no_more(server: ServerProcess) -> None:
    assert server.complete("1" * 1024, logprobs=0, **SCORING).status_code == 200
    refused = server.complete("1" * 1025, logprobs=0, **SCORING)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_request_for_log_probabilities_is_timed_and_is_no_answer(server: ServerProcess) -> None:
    before, _, after = server.metrics(), server.complete("1+1=2", logprobs=0, **SCORING), server.metrics()

    def counted(name: str) -> float:
        return series(after, name) - series(before, name)

    assert counted("serving_time_to_first_token_seconds_count") == 1
    assert counted("serving_request_duration_seconds_count") == 1
    assert counted("serving_answers_total") == counted("serving_answer_events_total") == 0


@pytest.mark.slow
def test_a_text_needs_cache_like_an_answer_does(tmp_path: Path) -> None:
    with ready(REVISIONS / "r4", tmp_path / "log", kv_cache_tokens=192) as small:
        assert small.complete("1" * 192, logprobs=0, **SCORING).status_code == 200
        assert small.complete("1" * 193, logprobs=0, **SCORING).json()["error"]["code"] == "insufficient_kv_cache"


@on_a_loop
async def test_scoring_ends_with_its_request_and_late_scores_are_dropped() -> None:
    service = HandService("", Random(0))
    run = service.ask("1+1=2", logprobs=1, **SCORING)
    (deliver,) = service.hand.scorings.values()
    run.generation.end(Ending.DEADLINE)
    assert service.hand.scorings == {}
    deliver(Scores((), None))
    assert run.generation.ending is Ending.DEADLINE
    assert service.idle.is_set()


@on_a_loop
async def test_scoring_that_fails_is_a_failed_request() -> None:
    service = HandService("", Random(0))
    run = service.ask("1+1=2", logprobs=1, **SCORING)
    service.hand.scorings.pop(run.id)(Scores((), "no finite log-probability"))
    problem = service.problem(run)
    assert problem is not None
    assert (problem.status, str(problem)) == (500, "The generation failed: no finite log-probability")


def scores(tokens: int) -> Scores:
    return Scores((TokenScore(-1.0, ()),) * (tokens - 1), None)


@on_a_loop
async def test_an_answer_is_scored_together_with_its_prompt_before_its_request_ends() -> None:
    service = HandService("", Random(0))
    run = service.ask("1+1=", logprobs=0)
    service.hand.give(run, "2", finished=True)
    assert run.generation.ending is None
    assert service.admission.running == 1, "what it reserved it keeps"
    service.hand.scorings.pop(run.id)(scores(len("1+1=2")))
    assert run.generation.ending is Ending.LENGTH
    answer = await run.answer()
    assert [(one.token, one.logprob) for one in answer.logprobs or ()] == [("2", -1.0)]
    assert service.idle.is_set()


@on_a_loop
async def test_a_stop_string_ends_what_the_engine_does_before_the_answer_is_scored() -> None:
    service = HandService("", Random(0))
    run = service.ask(logprobs=0, stop="b")
    service.hand.give(run, "ab")
    assert service.hand.requests == {}
    assert [*service.hand.scorings] == [run.id]
    service.hand.scorings.pop(run.id)(scores(len("1+1=ab")))
    assert (run.generation.ending, run.generation.shown) == (Ending.STOP, "a")


@on_a_loop
async def test_a_request_may_end_while_its_answer_is_scored() -> None:
    for ending in (Ending.DEADLINE, Ending.CANCELLED):
        service = HandService("", Random(0))
        run = service.ask(logprobs=0)
        service.hand.give(run, "2", finished=True)
        run.generation.end(ending)
        assert service.hand.scorings == {}
        assert run.generation.ending is ending
        assert service.admission.running == 0


@on_a_loop
async def test_an_answer_that_cannot_be_scored_is_a_failed_request() -> None:
    service = HandService("", Random(0))
    run = service.ask(logprobs=0)
    service.hand.give(run, "2", finished=True)
    service.hand.scorings.pop(run.id)(Scores((), "no finite log-probability"))
    problem = service.problem(run)
    assert problem is not None
    assert (problem.status, problem.code) == (500, "generation_failed")


def byte_level() -> Tokenizer:
    """Tokens may be parts of a character, and one is put before every text."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False)
    tokenizer.train_from_iterator(["hello world hello"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def test_parts_of_a_character_and_added_tokens_keep_the_offsets_of_the_text() -> None:
    tokenizer = byte_level()
    encoding = tokenizer.encode("hello €!")
    scores = [TokenScore(-1.0, ())] * (len(encoding.ids) - 1)
    logprobs = legacy_logprobs(prompt_logprobs(tokenizer, encoding, scores))
    assert logprobs["tokens"] == ["<s>", "hello", " ", "", "", "€", "!"]
    assert logprobs["text_offset"] == [0, 0, 5, 6, 6, 6, 7]
    assert logprobs["token_logprobs"] == [None, *[-1.0] * 6]


def test_the_texts_own_token_is_named_among_the_top_even_if_it_is_not_there() -> None:
    encoding = ARITHMETIC.encode("12")
    (one,), (two,), (three,) = (encode(character) for character in "123")
    best = ((three, math.log(0.6)), (one, math.log(0.3)))
    logprobs = legacy_logprobs(prompt_logprobs(ARITHMETIC, encoding, [TokenScore(math.log(0.1), best)]))
    assert logprobs["top_logprobs"] == [None, {"3": math.log(0.6), "1": math.log(0.3), "2": math.log(0.1)}]
    assert two not in dict(best)


def test_a_text_of_one_token_has_no_log_probability() -> None:
    assert legacy_logprobs(prompt_logprobs(ARITHMETIC, ARITHMETIC.encode("1"), [])) == {
        "tokens": ["1"],
        "token_logprobs": [None],
        "top_logprobs": [None],
        "text_offset": [0],
    }


def test_an_answers_special_tokens_are_named_but_have_no_place_in_its_text() -> None:
    tokenizer = byte_level()
    ids = [*tokenizer.encode("hello €", add_special_tokens=False).ids, 0]
    named = answer_logprobs(tokenizer, ids, [TokenScore(-1.0, ((0, -0.5),))] * len(ids))
    assert [one.token for one in named] == ["hello", " ", "", "", "€", "<s>"]
    assert [one.offset for one in named] == [0, 5, 6, 6, 6, 7]


def test_chats_shape_has_bytes_and_exactly_the_most_likely_tokens() -> None:
    (two,), (three,) = (encode(character) for character in "23")
    named = answer_logprobs(ARITHMETIC, [two], [TokenScore(-3.0, ((three, -0.5),))])
    three_alone = {"token": "3", "logprob": -0.5, "bytes": [51]}
    assert chat_logprobs(named)["content"] == [
        {"token": "2", "logprob": -3.0, "bytes": [50], "top_logprobs": [three_alone]}
    ]


def test_part_of_a_character_has_no_bytes_of_its_own() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("€", add_special_tokens=False).ids
    best = ((ids[1], -0.5),)
    content = chat_logprobs(answer_logprobs(tokenizer, ids, [TokenScore(-1.0, best)] * 3))["content"]
    assert [one["bytes"] for one in content] == [None, None, list("€".encode())]
    assert content[0]["top_logprobs"][0]["bytes"] is None
