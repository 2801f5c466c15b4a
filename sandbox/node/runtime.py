"""What runs a pod's containers: the port. `processes.py` runs them as processes, `containers.py` by a Docker Engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.node.launch import Launch


@dataclass(frozen=True)
class Exit:
    """How a container ended. `code` is 128 + n after signal n; `reason` as in a pod's status."""

    code: int
    reason: str

    @classmethod
    def of(cls, code: int) -> Exit:
        return cls(code, "Error" if code else "Completed")


class RunningContainer(Protocol):
    async def wait(self) -> Exit:
        """Until it has ended and its output is written."""

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL for what is left after the grace period."""


class Runtime(Protocol):
    name: str
    """Name and version, as the Node object gives them: `process://1`."""

    async def pull(self, image: str) -> None:
        """Make the image available. Raises ImageError."""

    async def start(self, key: str, launch: Launch, log: Path) -> RunningContainer:
        """`key` names the container on this node. Raises StartError, ImageError, ContainerConfigError."""

    async def remove_leftovers(self) -> None:
        """End what an earlier process of this node left running."""
