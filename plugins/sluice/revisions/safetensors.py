"""Are a model's weights whole? Looks at headers and sizes only, so that gigabytes take milliseconds.

A .safetensors file is: 8 bytes header length (unsigned, little-endian), the header (JSON: tensor → dtype, shape,
data_offsets), the data. The offsets count from the header's end, so the header says how long the file must be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from sluice.errors import BadInput

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


def check_weights(directory: Path) -> None:
    """Raises BadInput if weights are missing or truncated: names the file, what is expected and what was found."""
    if not (directory / SINGLE).is_file() and not (directory / INDEX).is_file():
        raise BadInput(f"{directory}: no weights: neither {SINGLE} nor {INDEX} is there; copy the revision again")
    if (directory / INDEX).is_file():
        _check_shards(directory)
    for path in sorted(directory.rglob("*.safetensors")):
        check_whole(path)


def check_whole(path: Path) -> None:
    """Raises BadInput if the file is not as long as its header says."""
    found = path.stat().st_size
    with path.open("rb") as file:
        expected = _expected_bytes(file, path, found)
    if found != expected:
        state = "truncated" if found < expected else "too long"
        raise BadInput(f"{path}: the file is {state}: {expected} bytes expected, {found} found; copy it again")


def _expected_bytes(file: BinaryIO, path: Path, found: int) -> int:
    length = int.from_bytes(file.read(8), "little")
    least = 8 + length if found >= 8 and length <= MAX_HEADER_BYTES else 8
    if found < least:
        raise BadInput(f"{path}: the file is truncated: at least {least} bytes expected, {found} found; copy it again")
    try:
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header would have {length} bytes")
        header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return 8 + length + int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadInput(f"{path}: this is no safetensors file ({error}); copy it again") from error


def _check_shards(directory: Path) -> None:
    index = directory / INDEX
    shards = _shards(index)
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing:
        raise BadInput(
            f"{directory}: {len(missing)} of {len(shards)} weight files that {INDEX} names are missing: "
            f"{', '.join(missing)}; copy them again"
        )


def _shards(index: Path) -> list[str]:
    try:
        content: Any = json.loads(index.read_bytes())
        return sorted({str(shard) for shard in content["weight_map"].values()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{index}: this is no index of weight files ({error!r}); copy it again") from error
