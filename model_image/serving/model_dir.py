"""Checks of a model directory without model code: a broken one is refused before anything heavy is imported."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER_LENGTH_BYTES = 8


TOKENIZER_FILES = ("added_tokens.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
"""What the tokenizer is made from; vocab and merges files are not read beside a tokenizer.json."""

PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class ModelDirError(Exception):
    """The model directory cannot be served; the message names the file and the remedy."""


def check_model_dir(directory: Path) -> None:
    """Raises ModelDirError if a file is missing, unreadable or truncated, or the model needs code of its own."""
    if not directory.is_dir():
        raise ModelDirError(f"{directory}: no such directory; set MODEL_DIR to a model's directory")
    for name in ("config.json", "tokenizer.json"):
        _read_json(directory / name)
    _check_code(directory)
    index = directory / "model.safetensors.index.json"
    if index.exists():
        for shard in sorted(set(_read_json(index).get("weight_map", {}).values())):
            if not (directory / shard).is_file():
                raise ModelDirError(
                    f"{directory / shard}: missing, but {index.name} names it; fetch the revision again"
                )
    for file in weight_files(directory):
        _check_safetensors(file)


def _check_code(directory: Path) -> None:
    for file in (directory / "config.json", directory / "tokenizer_config.json"):
        if file.exists() and _read_json(file).get("auto_map"):
            raise ModelDirError(
                f"{file}: auto_map names code of the model's own, which is never run here; take the entry out if "
                "transformers knows the model without it, else choose a model that it knows"
            )


def weight_files(directory: Path) -> list[Path]:
    """The directory's safetensors in the order of their names; raises ModelDirError if there is none."""
    files = sorted(directory.glob("*.safetensors"))
    pickled = sorted(file.name for pattern in PICKLED_WEIGHTS for file in directory.glob(pattern))
    if not files and pickled:
        raise ModelDirError(
            f"{directory}: {pickled[0]} is a pickle, which can run code when it is read, and is never read here; "
            "convert the weights to safetensors (save_pretrained of transformers writes them)"
        )
    if not files:
        raise ModelDirError(f"{directory}: no *.safetensors file; fetch the revision again or convert its weights")
    return files


@dataclass(frozen=True)
class FileDigests:
    """What a model directory holds, each as `sha256:…`."""

    weights: str
    tokenizer: str

    @classmethod
    def of(cls, directory: Path) -> "FileDigests":
        return cls(weights_digest(directory), tokenizer_digest(directory))


def tokenizer_digest(directory: Path) -> str:
    """`sha256:…` over the canonical JSON of {file name: content} of TOKENIZER_FILES that exist.

    Without the chat template, which may stand in tokenizer_config.json: two revisions that differ in it alone make the
    same tokens of the same text.
    """
    contents = {name: _read_json(directory / name) for name in TOKENIZER_FILES if (directory / name).exists()}
    contents.get("tokenizer_config.json", {}).pop("chat_template", None)
    return json_digest(contents)


def json_digest(value: Any) -> str:
    """`sha256:…` over JSON with sorted keys and without spaces, in UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text_digest(text)


def text_digest(text: str) -> str:
    """`sha256:…` over the text in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def weights_digest(directory: Path) -> str:
    """`sha256:…` over the bytes of all safetensors in the order of their names; a single file's is its own SHA-256."""
    digest = hashlib.sha256()
    for path in weight_files(directory):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelDirError(f"{path}: missing; fetch the revision again") from None
    except (OSError, ValueError) as error:
        raise ModelDirError(f"{path}: not readable as JSON ({error}); fetch the revision again") from error
    if not isinstance(content, dict):
        raise ModelDirError(f"{path}: not a JSON object; fetch the revision again")
    return content


def _check_safetensors(path: Path) -> None:
    """The format: 8 bytes little-endian length of a JSON header, the header, tensors at the offsets that it gives."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_length = int.from_bytes(file.read(_HEADER_LENGTH_BYTES), "little")
        if _HEADER_LENGTH_BYTES + header_length > size:
            raise ModelDirError(f"{path}: truncated in its header ({size} bytes); fetch the revision again")
        try:
            header = json.loads(file.read(header_length))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelDirError(f"{path}: not a safetensors file; fetch the revision again") from error
    expected = _HEADER_LENGTH_BYTES + header_length + end
    if size != expected:
        raise ModelDirError(f"{path}: has {size} bytes instead of {expected} (truncated?); fetch the revision again")
