"""A context with the shape of model_image/, a revision with weights that do not compress."""

from __future__ import annotations

import os
from pathlib import Path

from sluice.ports import Revision

WEIGHTS_BYTES = 300_000
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN head -c 8000000 /dev/urandom > /opt/packages
WORKDIR /srv
COPY serving serving
ARG MODEL
ARG MODEL_TARGET
COPY ${MODEL} ${MODEL_TARGET}
ARG REVISION
ARG VERSION
LABEL org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.version="${VERSION}"
"""


def build_context(directory: Path) -> Path:
    (directory / "serving").mkdir(parents=True)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "requirements.lock").touch()
    (directory / "serving" / "__init__.py").write_text(f"# {os.urandom(8).hex()}\n")
    return directory


def revision(directory: Path, name: str) -> Revision:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "serving.json").write_text('{"kv_cache_tokens": 192}')
    (directory / "model.safetensors").write_bytes(os.urandom(WEIGHTS_BYTES))
    return Revision(name, f"sha256:{name}", directory)
