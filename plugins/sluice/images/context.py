"""What goes into an image: `Dockerfile`, `requirements.lock` and the Python files of `serving/` from the build context,
and a revision's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sluice.errors import BadInput
from sluice.images.content import digest_of, files_under

PACKAGE = "serving"
FILES = ("Dockerfile", "requirements.lock")
SETTINGS = "serving.json"
"""Comes with a revision, but is part of the version's environment, not of the image's files."""


def context_files(context: Path) -> Mapping[str, Path]:
    """Relative path → file. Raises BadInput if the folder is no build context."""
    missing = [name for name in FILES if not (context / name).is_file()]
    package = {
        f"{PACKAGE}/{name}": path for name, path in files_under(context / PACKAGE).items() if name.endswith(".py")
    }
    if not package:
        missing.append(f"{PACKAGE}/*.py")
    if missing:
        raise BadInput(
            f"image.context: {context} is no build context of a serving image: {', '.join(missing)} missing; "
            f"name the folder that holds {', '.join(FILES)} and {PACKAGE}/"
        )
    return {name: context / name for name in FILES} | package


def model_files(revision: Path) -> Mapping[str, Path]:
    """Relative path → file of what a revision puts into an image."""
    return {name: path for name, path in files_under(revision).items() if name != SETTINGS}


def default_base(context: Path) -> str:
    """The base image that the context's Dockerfile names itself, "" if it names none."""
    found = re.search(r"^ARG\s+BASE_IMAGE=[\"']?([^\s\"']+)", (context / "Dockerfile").read_text(), re.MULTILINE)
    return found[1] if found else ""


def digest_of_context(context: Path) -> str:
    """`sha256:<hex>` over the context's files. Raises BadInput if the folder is no build context."""
    try:
        return "sha256:" + digest_of(context_files(context))
    except OSError as error:
        raise BadInput(f"image.context: {context} cannot be read ({error}); correct its rights") from error
