"""A build context as a tar stream: the same files are the same bytes, whoever sends them from wherever and whenever.

The stream is made while it is sent, a block at a time, so that weights of any size need neither memory nor a copy on
this machine's disk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from sluice.errors import BadInput

BLOCK_BYTES = 1 << 20


def tar_stream(files: Mapping[str, Path], folder: str) -> Iterator[bytes]:
    """The blocks of a tar file of `files` (relative path → file) and of `folder`, empty or not.

    Entries are sorted, owned by root, readable by all and dated 1970. Raises BadInput if a file cannot be read or
    changes its size while it is read.
    """
    folders = {str(parent) for name in (*files, f"{folder}/any") for parent in PurePosixPath(name).parents} - {"."}
    for name in sorted(folders | files.keys()):
        if name in folders:
            yield _header(name, tarfile.DIRTYPE, 0o755, 0)
        else:
            yield from _file(name, files[name])
    yield tarfile.NUL * (tarfile.BLOCKSIZE * 2)


def _file(name: str, path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            yield _header(name, tarfile.REGTYPE, 0o644, size)
            sent = 0
            while block := file.read(BLOCK_BYTES):
                sent += len(block)
                yield block
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error}); fetch the revision again or correct its rights") from error
    if sent != size:
        raise BadInput(f"{path} changed from {size} to {sent} bytes while it was read; a revision must not change")
    yield tarfile.NUL * (-size % tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 0
    entry.uname = entry.gname = "root"
    return entry.tobuf(tarfile.PAX_FORMAT)
