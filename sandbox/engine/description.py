"""`engine.json`: all that a build needs to know about an engine, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.engine.errors import EngineMissing
from sandbox.processes import replace_file

FILE = "engine.json"


@dataclass(frozen=True)
class Engine:
    """Where the engine and the registry answer, and what builds are to be given."""

    docker_host: str
    """As in DOCKER_HOST, e.g. `unix:///run/…/docker.sock`."""
    registry: str
    """`host:port`, the first part of an image's name; speaks HTTP and asks for no password."""
    registry_storage: str
    """Directory in which the registry keeps its blobs: its growth is what was pushed."""
    base_image: str
    """Debian with Python, in the registry, to be given to builds as BASE_IMAGE."""
    build_args: Mapping[str, str]
    """Lets pip in a build reach what pip on this machine reaches. Builds need the host's network."""

    @classmethod
    def read(cls, file: Path) -> Engine:
        """Raises EngineMissing if no engine was started there."""
        try:
            return cls(**json.loads(file.read_text()))
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise EngineMissing(
                f"{file} describes no engine ({error}); run `python -m sandbox.engine up --state {file.parent}`"
            ) from error

    def write(self, file: Path) -> None:
        replace_file(file, json.dumps(asdict(self), indent=2) + "\n")
