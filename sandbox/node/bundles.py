"""Image references -> bundles: the directories that stand for images where processes stand for containers.

`<repository>@sha256:<hex>` names `<bundles>/<hex>/`, which holds `bundle.json`:
`{"entrypoint": ["python", "-m", "serving"], "env": {"PYTHONPATH": "app"}, "labels": {}}`. Relative paths in it are
relative to the bundle's directory, in which the entrypoint is started.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.node.errors import ImageError
from sandbox.node.references import split_reference


@dataclass(frozen=True)
class Bundle:
    directory: Path
    entrypoint: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def find_bundle(bundles: Path, image: str) -> Bundle:
    """
    Raises:
        ImageError: the reference has no digest, or its bundle is missing or broken.
    """
    _, digest = split_reference(image)
    directory = bundles / digest
    try:
        description = json.loads((directory / "bundle.json").read_text())
        return Bundle(directory, tuple(description["entrypoint"]), dict(description.get("env") or {}))
    except FileNotFoundError:
        raise ImageError(f'image "{image}" not found: there is no {directory}/bundle.json') from None
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f'image "{image}": {directory}/bundle.json is not a bundle description: {error!r}') from error
