"""Revisions in a directory: found, ordered, identified by content, refused when damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.revisions.directory import DirectoryRevisions
from tests.unit.revisions.model_files import model, safetensors


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("r10", "r2", "r1"):
        model(tmp_path / "arithmetic" / name)
    return tmp_path / "arithmetic"


async def digest(root: Path, name: str) -> str:
    return (await DirectoryRevisions(root).resolve(name)).digest


async def test_revisions_are_listed_in_natural_order(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "README.md").write_text("no revision")
    assert await DirectoryRevisions(root).names() == ["r1", "r2", "r10"]


async def test_names_of_several_kinds_are_ordered(root: Path) -> None:
    for name in ("a10", "b2", "main", "2"):
        model(root / name)
    assert await DirectoryRevisions(root).names() == ["2", "a10", "b2", "main", "r1", "r2", "r10"]


async def test_a_policys_source_is_relative_to_the_project(root: Path) -> None:
    revisions = DirectoryRevisions.of_source("dir://arithmetic", root.parent)
    assert (await revisions.resolve("r2")).location == root / "r2"


def test_another_kind_of_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"source: 'hf://x/y' is no directory; write dir://path"):
        DirectoryRevisions.of_source("hf://x/y", tmp_path)


async def test_the_same_files_are_the_same_revision_wherever_they_lie(root: Path) -> None:
    assert await digest(root, "r1") == await digest(root, "r2")
    assert (await digest(root, "r1")).startswith("sha256:")


@pytest.mark.parametrize("change", ["content", "name", "more", "deeper"])
async def test_another_content_or_name_is_another_revision(root: Path, change: str) -> None:
    tokenizer = root / "r1" / "tokenizer.json"
    tokenizer.write_text("{}")
    before = await digest(root, "r1")
    match change:
        case "content":
            (root / "r1" / "model.safetensors").write_bytes(safetensors(b"\x01" * 16))
        case "name":
            tokenizer.rename(root / "r1" / "vocabulary.json")
        case "more":
            (root / "r1" / "merges.txt").touch()
        case "deeper":
            (root / "r1" / "files").mkdir()
            tokenizer.rename(root / "r1" / "files" / "tokenizer.json")
    assert await digest(root, "r1") != before


async def test_hidden_files_are_no_part_of_a_revision(root: Path) -> None:
    before = await digest(root, "r1")
    (root / "r1" / ".cache").mkdir()
    (root / "r1" / ".cache" / "lock").write_text("1")
    assert await digest(root, "r1") == before


async def test_serving_settings_come_with_the_revision_but_do_not_change_it(root: Path) -> None:
    settings = {"max_prompt_tokens": 64, "dtype": "float32", "prefix_sharing": True, "scale": 0.5}
    (root / "r2" / "serving.json").write_text(json.dumps(settings))
    revision = await DirectoryRevisions(root).resolve("r2")
    assert revision.settings == {
        "max_prompt_tokens": "64",
        "dtype": "float32",
        "prefix_sharing": "true",
        "scale": "0.5",
    }
    assert revision.digest == await digest(root, "r1")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"a": {"b": 1}}', r"a: \{'b': 1\} is no setting"),
        ('{"a": null}', "a: None is no setting"),
        ("[1]", "no JSON object"),
        ("{", "broken JSON"),
    ],
)
async def test_settings_that_are_no_flat_mapping_are_refused(root: Path, content: str, complaint: str) -> None:
    (root / "r2" / "serving.json").write_text(content)
    with pytest.raises(BadInput, match=rf"r2/serving\.json: .*{complaint}"):
        await DirectoryRevisions(root).resolve("r2")


@pytest.mark.parametrize("name", ["r3", "", "..", "../arithmetic/r1"])
async def test_an_unknown_revision_lists_the_known_ones(root: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"is unknown in .*arithmetic; the known ones are r1, r2, r10"):
        await DirectoryRevisions(root).resolve(name)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere: there is no such directory of revisions; correct the policy"):
        await DirectoryRevisions(tmp_path / "nowhere").names()


async def test_damaged_weights_are_refused(root: Path) -> None:
    weights = root / "r2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(BadInput, match=r"r2/model\.safetensors: the file is truncated"):
        await DirectoryRevisions(root).resolve("r2")


async def test_a_broken_config_is_refused(root: Path) -> None:
    (root / "r2" / "config.json").write_text('{"model_type": ')
    with pytest.raises(BadInput, match=r"r2/config\.json: broken JSON"):
        await DirectoryRevisions(root).resolve("r2")


async def test_a_link_to_a_revision_is_a_revision(root: Path) -> None:
    (root / "main").symlink_to(root / "r2", target_is_directory=True)
    assert await digest(root, "main") == await digest(root, "r2")
    shutil.rmtree(root / "r2")
    assert "main" not in await DirectoryRevisions(root).names()
