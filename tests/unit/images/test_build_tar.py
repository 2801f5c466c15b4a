"""A build context as bytes: the same files, the same bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.images.build_tar import BLOCK_BYTES, tar_stream


def files(directory: Path) -> dict[str, Path]:
    (directory / "a").mkdir(parents=True)
    (directory / "a" / "weights").write_bytes(b"w" * (BLOCK_BYTES + 3))
    (directory / "Dockerfile").write_text("FROM scratch\n")
    return {"model/of/weights": directory / "a" / "weights", "Dockerfile": directory / "Dockerfile"}


def written(contents: dict[str, Path]) -> bytes:
    return b"".join(tar_stream(contents, folder="model/of"))


def test_the_same_files_are_the_same_bytes_wherever_and_whenever_they_were_written(tmp_path: Path) -> None:
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    (tmp_path / "other" / "Dockerfile").chmod(0o600)
    assert written(one) == written(dict(reversed(other.items())))


def test_any_tar_program_reads_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(files(tmp_path)))) as archive:
        entries = {entry.name: entry for entry in archive}
        weights = archive.extractfile("model/of/weights")
        assert weights is not None
        assert weights.read() == b"w" * (BLOCK_BYTES + 3)
    assert list(entries) == ["Dockerfile", "model", "model/of", "model/of/weights"]
    assert {entry.mtime for entry in entries.values()} == {0}
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
    assert {entry.mode for entry in entries.values() if entry.isdir()} == {0o755}
    assert {entry.mode for entry in entries.values() if entry.isfile()} == {0o644}


def test_a_folder_without_files_is_there(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    with tarfile.open(fileobj=io.BytesIO(written({"Dockerfile": tmp_path / "Dockerfile"}))) as archive:
        assert archive.getnames() == ["Dockerfile", "model", "model/of"]


def test_a_name_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    name = "model/" + "d" * 120 + "/" + "f" * 120
    with tarfile.open(fileobj=io.BytesIO(written({name: tmp_path / "file"}))) as archive:
        assert name in archive.getnames()


def test_it_is_sent_a_block_at_a_time(tmp_path: Path) -> None:
    assert max(map(len, tar_stream(files(tmp_path), folder="model/of"))) == BLOCK_BYTES


def test_a_file_that_grows_while_it_is_sent_is_refused(tmp_path: Path) -> None:
    contents = files(tmp_path)
    stream = tar_stream(contents, folder="model/of")
    for block in stream:
        if len(block) == BLOCK_BYTES:
            with contents["model/of/weights"].open("ab") as weights:
                weights.write(b"more")
            break
    with pytest.raises(BadInput, match=r"weights changed from 1048579 to 1048583 bytes while it was read"):
        list(stream)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone cannot be read .*fetch the revision again"):
        written({"gone": tmp_path / "gone"})
