"""What of a build context goes into an image: `Dockerfile`, `requirements.lock`, and the Python files of `serving/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice.errors import BadInput
from sluice.images.content import digest_of, files_under

PACKAGE = "serving"
FILES = ("Dockerfile", "requirements.lock")


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


def digest_of_context(context: Path) -> str:
    """`sha256:<hex>` over the context's files. Raises BadInput if the folder is no build context."""
    try:
        return "sha256:" + digest_of(context_files(context))
    except OSError as error:
        raise BadInput(f"image.context: {context} cannot be read ({error}); correct its rights") from error
