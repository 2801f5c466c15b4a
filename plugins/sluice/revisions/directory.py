"""Revisions in a directory: each subdirectory that holds a config.json is one, named like it.

A revision's digest is over its files, names and contents. `serving.json` is not one of them: its settings go into the
*version*, so that another setting is another version of the same revision.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice.errors import BadInput
from sluice.ports import Revision
from sluice.revisions.safetensors import check_weights

SCHEME = "dir://"
CONFIG = "config.json"
SETTINGS = "serving.json"


class DirectoryRevisions:
    """The revisions under one directory. Files are read in threads: weights are big."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def of_source(cls, source: str, base: Path) -> DirectoryRevisions:
        """A policy's `source: dir://relative/path`, relative to `base`. Raises BadInput for another kind of source."""
        if not source.startswith(SCHEME):
            raise BadInput(f"source: {source!r} is no directory; write {SCHEME}path, relative to the project")
        return cls(base / source.removeprefix(SCHEME))

    async def names(self) -> Sequence[str]:
        """Natural order (r2 before r10). Raises BadInput if the directory is missing."""
        return await asyncio.to_thread(self._names)

    async def resolve(self, name: str) -> Revision:
        """Raises BadInput for an unknown revision, damaged files, or settings that are no flat mapping."""
        try:
            return await asyncio.to_thread(self._resolve, name)
        except OSError as error:
            raise BadInput(f"revision {name!r} in {self._root} cannot be read ({error}); correct its rights") from error

    def _names(self) -> list[str]:
        if not self._root.is_dir():
            raise BadInput(f"{self._root}: there is no such directory of revisions; correct the policy's source")
        return sorted((path.parent.name for path in self._root.glob(f"*/{CONFIG}")), key=_natural)

    def _resolve(self, name: str) -> Revision:
        known = self._names()
        if name not in known:
            raise BadInput(
                f"revision {name!r} is unknown in {self._root}; the known ones are {', '.join(known) or '(none)'} "
                f"(a revision is a subdirectory with a {CONFIG})"
            )
        location = self._root / name
        _json_object(location / CONFIG)
        check_weights(location)
        return Revision(name, _digest(location), location, _settings(location / SETTINGS))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _digest(location: Path) -> str:
    """`sha256:<hex>` over sha256 and relative path of every file, sorted by that; hidden files are left out."""
    whole = hashlib.sha256()
    files = {path.relative_to(location).as_posix(): path for path in location.rglob("*") if path.is_file()}
    for name, path in sorted(files.items()):
        if name == SETTINGS or any(part.startswith(".") for part in name.split("/")):
            continue
        with path.open("rb") as file:
            whole.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _settings(path: Path) -> Mapping[str, str]:
    """Serving settings as texts (numbers and booleans as JSON writes them); empty without a file."""
    if not path.is_file():
        return {}
    settings = _json_object(path)
    for name, value in settings.items():
        if not isinstance(value, str | int | float):
            raise BadInput(f"{path}: {name}: {value!r} is no setting; write one text, number, true or false for it")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path}: broken JSON ({error}); correct the file") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: this is no JSON object; write {{name: value, …}}")
    return content
