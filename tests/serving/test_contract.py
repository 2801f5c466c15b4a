"""What a version promises: digests that change with what they stand for, and with nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hand_driven import HandEngine
from server_process import REVISIONS

from serving.contract import Contract, api_digest
from serving.engine import Sampling
from serving.model_dir import FileDigests, tokenizer_digest

FILES = FileDigests(weights="sha256:0", tokenizer="sha256:1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REVISIONS / "r2" / name, tmp_path)
    return tmp_path


def change(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("file", "entries"),
    [("tokenizer.json", {"normalizer": {"type": "Lowercase"}}), ("tokenizer_config.json", {"eos_token": "<pad>"})],
)
def test_another_tokenizer_has_another_digest(directory: Path, file: str, entries: dict[str, Any]) -> None:
    before = tokenizer_digest(directory)
    change(directory / file, **entries)
    assert tokenizer_digest(directory) != before


def test_an_added_file_changes_the_tokenizer_and_the_chat_template_does_not(directory: Path) -> None:
    before = tokenizer_digest(directory)
    change(directory / "tokenizer_config.json", chat_template="another")
    assert tokenizer_digest(directory) == before
    (directory / "added_tokens.json").write_text('{"<new>": 98}')
    assert tokenizer_digest(directory) != before


def test_chat_templates_differ_by_their_text_and_may_be_none() -> None:
    engine = HandEngine()
    digests = []
    for engine.chat_template in (None, "a", "b", {"default": "a", "tools": "b"}):
        digests.append(Contract.of(engine, FILES, "sha256:2").chat_template)
    assert digests[0] is None
    assert len(set(digests)) == 4


def test_sampling_defaults_say_whether_the_model_samples() -> None:
    engine = HandEngine()
    engine.default_sampling = Sampling(temperature=0.6, top_p=0.95)
    contract = Contract.of(engine, FILES, "sha256:2")
    assert contract.sampling_defaults == {"temperature": 0.6, "top_p": 0.95, "do_sample": True}


def openapi(description: str, **parameter: object) -> dict[str, Any]:
    request = {"description": description, "properties": {"description": {"type": "string"} | parameter}}
    return {"paths": {"/v1/completions": {"post": {}}}, "components": {"schemas": {"Request": request}}}


def test_the_interface_differs_by_what_it_accepts_and_not_by_words() -> None:
    assert api_digest(openapi("a body")) == api_digest(openapi("the body"))
    assert api_digest(openapi("a body")) != api_digest(openapi("a body", minLength=1))
