"""Which files of a build context make an image another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.images.bundle import BundleImages
from tests.unit.images.build_inputs import build_context


async def digest(context: Path) -> str:
    return await BundleImages(context / "unused").context_digest(context)


async def test_the_digest_is_over_names_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    one, other = build_context(tmp_path / "one"), build_context(tmp_path / "other")
    assert await digest(one) == await digest(other)
    assert (await digest(one)).startswith("sha256:")


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.lock", "serving/__main__.py", "serving/api/more.py"])
async def test_a_file_of_the_image_changes_the_digest(tmp_path: Path, name: str) -> None:
    context = build_context(tmp_path / "context")
    before = await digest(context)
    (context / name).write_text("# changed\n")
    assert await digest(context) != before


@pytest.mark.parametrize("name", ["README.md", "train/model.py", "serving/__pycache__/api.py", "serving/notes.txt"])
async def test_other_files_do_not(tmp_path: Path, name: str) -> None:
    context = build_context(tmp_path / "context")
    before = await digest(context)
    (context / name).parent.mkdir(exist_ok=True)
    (context / name).write_text("not part of the image")
    assert await digest(context) == before


async def test_a_moved_file_changes_the_digest(tmp_path: Path) -> None:
    context = build_context(tmp_path / "context")
    before = await digest(context)
    (context / "serving" / "api" / "routes.py").rename(context / "serving" / "routes.py")
    assert await digest(context) != before


async def test_a_folder_that_is_no_context_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    with pytest.raises(
        BadInput, match=r"no build context .*: requirements\.lock, serving/\*\.py missing; name the folder"
    ):
        await digest(tmp_path)
    with pytest.raises(BadInput, match="no build context"):
        await digest(tmp_path / "nowhere")
