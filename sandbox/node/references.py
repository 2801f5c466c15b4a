"""Image references: `<repository>@sha256:<hex>`, so that what was examined is what runs."""

from __future__ import annotations

import re

from sandbox.node.errors import ImageError

REFERENCE = re.compile(r"(?P<repository>.+)@sha256:(?P<hex>[0-9a-f]{64})")


def split_reference(image: str) -> tuple[str, str]:
    """Repository and the digest's hexadecimal digits. Raises ImageError for a reference without a digest."""
    matched = REFERENCE.fullmatch(image)
    if matched is None:
        raise ImageError(
            f'image "{image}" must be referred to by digest, as <repository>@sha256:<64 hexadecimal digits>'
        )
    return matched["repository"], matched["hex"]
