from typing import Any

import pytest

from sluice.judge import InvalidGate, Outcome, contract

PARTS = ("tokenizer", "chat_template", "context_tokens", "sampling_defaults")
STABLE: dict[str, Any] = {
    "tokenizer": "sha256:aa",
    "chat_template": "sha256:cc",
    "context_tokens": 8192,
    "sampling_defaults": {"temperature": 0.6, "top_p": 0.95},
    "started": "yesterday",
}


def without(part: str) -> dict[str, Any]:
    return {name: value for name, value in STABLE.items() if name != part}


def test_the_same_contract_may_advance() -> None:
    verdict = contract(STABLE | {"started": "today"}, STABLE, PARTS, forbid=PARTS)

    assert verdict.outcome is Outcome.non_inferior
    assert verdict.sentence == f"contract: as stable's: {', '.join(PARTS)}"
    assert verdict.numbers == {"differences": 0, "forbidden": 0}


def test_a_forbidden_difference_is_a_regression() -> None:
    verdict = contract(STABLE | {"context_tokens": 4096}, STABLE, PARTS, forbid=("context_tokens",))

    assert verdict.outcome is Outcome.regression
    assert "context_tokens is 4096 where stable has 8192, which the policy forbids" in verdict.sentence
    assert verdict.numbers == {"differences": 1, "forbidden": 1}


def test_another_difference_is_told_and_does_not_block() -> None:
    verdict = contract(STABLE | {"tokenizer": "sha256:bb"}, STABLE, PARTS, forbid=("context_tokens",))

    assert verdict.outcome is Outcome.non_inferior
    assert "tokenizer is sha256:bb where stable has sha256:aa; as stable's: " in verdict.sentence
    assert verdict.numbers == {"differences": 1, "forbidden": 0}


def test_every_difference_is_told() -> None:
    verdict = contract({"tokenizer": "x"}, STABLE, PARTS, forbid=())

    assert verdict.numbers["differences"] == 4
    assert all(part in verdict.sentence for part in PARTS)


@pytest.mark.parametrize("stable", [without("chat_template"), STABLE | {"chat_template": None}], ids=["absent", "null"])
def test_a_part_that_stable_does_not_say_never_blocks(stable: dict[str, Any]) -> None:
    verdict = contract(STABLE, stable, PARTS, forbid=PARTS)

    assert verdict.outcome is Outcome.non_inferior
    assert verdict.sentence.endswith("stable does not say: chat_template")


def test_a_part_that_only_stable_states_is_a_difference() -> None:
    verdict = contract(without("chat_template"), STABLE, PARTS, forbid=PARTS)

    assert verdict.outcome is Outcome.regression
    assert "chat_template is not stated where stable has sha256:cc" in verdict.sentence


def test_of_a_mapping_only_what_differs_is_told() -> None:
    warmer = STABLE | {"sampling_defaults": {"temperature": 1.0, "top_p": 0.95, "top_k": 20}}

    verdict = contract(warmer, STABLE, PARTS, forbid=())

    told = 'sampling_defaults is {"temperature": 1.0, "top_k": 20} where stable has {"temperature": 0.6}'
    assert told in verdict.sentence


def test_long_values_are_told_by_their_beginning_and_digest() -> None:
    templates = [STABLE | {"chat_template": "{% for message in messages %}\n" * 50 + end} for end in "ab"]

    sentence = contract(templates[0], templates[1], PARTS, forbid=()).sentence

    ours, theirs = sentence.split("chat_template is ")[1].split(";")[0].split(" where stable has ")
    assert ours != theirs
    assert len(ours) < 70
    assert "\n" not in sentence


def test_without_stable_there_is_nothing_to_compare() -> None:
    verdict = contract(STABLE, None, PARTS, forbid=PARTS)

    assert verdict.outcome is Outcome.no_data
    assert verdict.sentence == "contract: there is no stable version to compare with"


def test_a_part_that_is_forbidden_but_not_compared_is_refused() -> None:
    with pytest.raises(InvalidGate, match=r"contract\.forbid: 'eos' is none of tokenizer"):
        contract(STABLE, STABLE, PARTS, forbid=("eos",))
