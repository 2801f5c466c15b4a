"""Where the world is: one validated object, read once from SLUICE_* variables by whoever starts the work.

Tasks, triggers, the guard and the command line all read the same variables; what a model's users decide stands in its
policy instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from sluice.errors import BadInput
from sluice.policy.durations import Duration


def _key(key: str) -> str:
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("holds characters that no key has; copy it anew")
    return key


Key = Annotated[str, AfterValidator(_key), Field(repr=False)]
"""What goes into a header; never shown."""
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
    endpoint_key: Key = ""
    """Bearer key that the models' servers want; "": none."""
    prometheus_url: str = ""
    """A Prometheus that scrapes the gateway and the servers: what `/api/v1/query` is appended to."""
    prometheus_interval: Duration = timedelta(seconds=30)
    """The longest interval at which it scrapes them. A series that misses two scrapes has ended."""
    prometheus_token_file: Path | None = None
    """File with the bearer token that it wants; read anew for every query."""
    metrics_urls: tuple[str, ...] = ()
    """Without a Prometheus: expositions with the gateway's and the servers' series, separated by commas."""
    judge_key: Key = ""
    """Bearer key of the judge model that `gates.quality.rubric` names."""
    ledger: str = str(PROJECT / "var" / "ledger")
    """Folder or fsspec URL of the ledger."""
    images: Literal["docker", "bundles"] = "docker"
    """What builds images: a Docker Engine, or, for the sandbox without one, folders that stand for images."""
    docker_host: str = "unix:///var/run/docker.sock"
    """The Docker Engine; also read from DOCKER_HOST."""
    registry_user: str = ""
    """Who pushes images; in Airflow the connection `sluice_registry` comes first."""
    registry_password: str = Field("", repr=False)
    build_args: dict[str, str] = Field(default_factory=dict)
    """Build arguments of the Dockerfile as NAME=value, separated by commas, e.g. PIP_EXTRA_INDEX_URL."""
    build_network: str = ""
    """The network that a build's steps use, e.g. host; "": the engine's default."""
    model_cache: Path | None = None
    """Folder of the model cache, as Sluice's workers mount it; None: there is none."""
    bundles: Path = PROJECT / "var" / "bundles"
    """Folder of the sandbox's images."""
    workload: Path = PROJECT / "manifests" / "base" / "workload.yaml"
    """Template of the versioned Deployment."""

    @field_validator("metrics_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(url.strip() for url in value.split(",") if url.strip()) if isinstance(value, str) else value

    @field_validator("build_args", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.strip() for pair in value.split(",") if pair.strip()]
        if wrong := [pair for pair in pairs if "=" not in pair]:
            raise ValueError(f"{wrong[0]!r} is not NAME=value")
        return dict(pair.split("=", 1) for pair in pairs)

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
    values = {"docker_host": environment["DOCKER_HOST"]} if environment.get("DOCKER_HOST") else {}
    values |= {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        # Not from the error, which shows the value: it may be a key.
        raise BadInput(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from None
