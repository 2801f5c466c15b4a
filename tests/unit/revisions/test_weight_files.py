"""Whole weights are taken; missing and truncated ones are named with what is expected and what was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.revisions.safetensors import check_weights
from tests.unit.revisions.model_files import model, safetensors, sharded

WHOLE = safetensors(b"\x01" * 400)
HEADER = len(WHOLE) - 400


def test_whole_weights_are_taken(tmp_path: Path) -> None:
    check_weights(model(tmp_path / "r1", WHOLE))
    check_weights(sharded(tmp_path / "r2", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"))


def test_a_file_without_tensors_is_whole(tmp_path: Path) -> None:
    check_weights(model(tmp_path / "r1", (2).to_bytes(8, "little") + b"{}"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (WHOLE[:-1], rf"truncated: {len(WHOLE)} bytes expected, {len(WHOLE) - 1} found"),
        (WHOLE[:HEADER], rf"truncated: {len(WHOLE)} bytes expected, {HEADER} found"),
        (WHOLE[: HEADER - 1], rf"truncated: at least {HEADER} bytes expected, {HEADER - 1} found"),
        (WHOLE[:8], rf"truncated: at least {HEADER} bytes expected, 8 found"),
        (WHOLE[:7], r"truncated: at least 8 bytes expected, 7 found"),
        (b"", r"truncated: at least 8 bytes expected, 0 found"),
        (WHOLE + b"x", rf"too long: {len(WHOLE)} bytes expected, {len(WHOLE) + 1} found"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"no safetensors file \(its header would have"),
        ((4).to_bytes(8, "little") + b"{bad", r"no safetensors file \(Expecting"),
        ((2).to_bytes(8, "little") + b"[]", r"no safetensors file"),
        ((8).to_bytes(8, "little") + b'{"w":{}}', r"no safetensors file \('data_offsets'\)"),
    ],
)
def test_a_damaged_file_is_named_with_its_bytes(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=rf"r1/model\.safetensors: .*{complaint}.*copy it again"):
        check_weights(model(tmp_path / "r1", content))


@pytest.mark.parametrize("length", range(0, len(WHOLE), 13))
def test_no_truncation_goes_unnoticed(tmp_path: Path, length: int) -> None:
    with pytest.raises(BadInput, match="truncated"):
        check_weights(model(tmp_path / "r1", WHOLE[:length]))


def test_a_revision_without_weights_is_refused(tmp_path: Path) -> None:
    directory = model(tmp_path / "r1")
    (directory / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"r1: no weights: neither model\.safetensors nor .*index\.json is there"):
        check_weights(directory)


def test_shards_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    directory = sharded(tmp_path / "r1", "a.safetensors", "b.safetensors", "c.safetensors")
    (directory / "b.safetensors").unlink()
    with pytest.raises(BadInput, match=r"r1: 1 of 3 weight files .* missing: b\.safetensors"):
        check_weights(directory)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    directory = sharded(tmp_path / "r1", "a.safetensors", "b.safetensors")
    (directory / "b.safetensors").write_bytes(WHOLE[:-1])
    with pytest.raises(BadInput, match=r"b\.safetensors: the file is truncated"):
        check_weights(directory)


@pytest.mark.parametrize("content", ["{", json.dumps({}), json.dumps({"weight_map": ["a"]})])
def test_a_broken_index_is_named(tmp_path: Path, content: str) -> None:
    directory = sharded(tmp_path / "r1", "a.safetensors")
    (directory / "model.safetensors.index.json").write_text(content)
    with pytest.raises(BadInput, match=r"index\.json: this is no index of weight files"):
        check_weights(directory)
