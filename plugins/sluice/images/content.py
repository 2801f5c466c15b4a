"""Digests over files: what was hashed is their names and contents, not where they lie or when they were written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def files_under(directory: Path) -> Mapping[str, Path]:
    """Relative path → file, sorted; hidden files and compiled Python are left out."""
    found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    return {name: found[name] for name in sorted(found) if not _left_out(name)}


def digest_of(files: Mapping[str, Path]) -> str:
    """64 hex digits over the sha256 and the name of every file, in the order of names (the format of sha256sum)."""
    whole = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as file:
            whole.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return whole.hexdigest()


def _left_out(name: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
