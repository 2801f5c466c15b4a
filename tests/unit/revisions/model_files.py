"""Model directories as small as they can be: a config, and one weight file in the safetensors format."""

from __future__ import annotations

import json
from pathlib import Path


def safetensors(data: bytes = b"\x00" * 16) -> bytes:
    """A whole file with one tensor of `data`."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]},
        }
    ).encode()
    return len(header).to_bytes(8, "little") + header + data


def model(directory: Path, weights: bytes | None = None) -> Path:
    """A whole revision in `directory`."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    (directory / "model.safetensors").write_bytes(safetensors() if weights is None else weights)
    return directory


def sharded(directory: Path, *shards: str) -> Path:
    """A revision whose weights are in `shards`; all of them are there."""
    model(directory)
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {f"layer.{shard}": shard for shard in shards}})
    )
    for shard in shards:
        (directory / shard).write_bytes(safetensors())
    return directory
