"""Where the world is: one validated object, read once from SLUICE_* variables by whoever starts the work.

Tasks, triggers, the guard and the command line all read the same variables; what a model's users decide stands in its
policy instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from sluice.errors import BadInput

PREFIX = "SLUICE_"
PROJECT = Path(__file__).resolve().parents[2]


class Settings(BaseModel):
    """Field `kubeconfig` is read from SLUICE_KUBECONFIG, and so on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    releases: Path = PROJECT / "releases"
    """Folder of the policies; their relative paths start at its parent."""
    kubeconfig: Path | None = None
    """None: the pod's own service account."""
    gateway_url: str = ""
    """Where the mesh's ingress gateway answers, e.g. https://gateway.example.com."""
    metrics_urls: tuple[str, ...] = ()
    """Prometheus expositions with the gateway's and the servers' series; separated by commas."""
    ledger: str = str(PROJECT / "var" / "ledger")
    """Folder or fsspec URL of the ledger."""
    bundles: Path = PROJECT / "var" / "bundles"
    """Folder of the sandbox's images."""
    workload: Path = PROJECT / "manifests" / "base" / "workload.yaml"
    """Template of the versioned Deployment."""

    @field_validator("metrics_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(url.strip() for url in value.split(",") if url.strip()) if isinstance(value, str) else value

    @property
    def root(self) -> Path:
        """The project: what paths in policies are relative to."""
        return self.releases.resolve().parent


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises BadInput naming the variable."""
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from error
