"""Where the world is: one validated object, read once from SLUICE_* variables by whoever starts the work.

Tasks, triggers, the guard and the command line all read the same variables; what a model's users decide stands in its
policy instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sluice.errors import BadInput
from sluice.policy.durations import Duration

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
    prometheus_url: str = ""
    """A Prometheus that scrapes the gateway and the servers: what `/api/v1/query` is appended to."""
    prometheus_interval: Duration = timedelta(seconds=30)
    """The longest interval at which it scrapes them. A series that misses two scrapes has ended."""
    prometheus_token_file: Path | None = None
    """File with the bearer token that it wants; read anew for every query."""
    metrics_urls: tuple[str, ...] = ()
    """Without a Prometheus: expositions with the gateway's and the servers' series, separated by commas."""
    judge_key: str = Field("", repr=False)
    """Bearer key of the judge model that `gates.quality.rubric` names."""
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

    @field_validator("prometheus_interval")
    @classmethod
    def _takes_time(cls, interval: timedelta) -> timedelta:
        if not interval:
            raise ValueError("must be more than 0s")
        return interval

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
