"""A client of the Kubernetes API from a kubeconfig, or from inside a pod."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.client.configuration import Configuration

from sluice.errors import BadInput

Kubeconfig = Path | Mapping[str, Any]
"""A file, or its content."""


@asynccontextmanager
async def connect(kubeconfig: Kubeconfig | None = None, context: str | None = None) -> AsyncIterator[ApiClient]:
    """An open client, closed at the end; of the pod's service account if no kubeconfig is given.

    Raises BadInput if there is no such file, context or service account; whether the server answers, a call shows.
    """
    configuration: Configuration = type.__call__(Configuration)  # Configuration() copies the process's default
    try:
        if kubeconfig is None:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        elif isinstance(kubeconfig, Path):
            _check_mapping(kubeconfig)
            await config.load_kube_config(str(kubeconfig), context, configuration, persist_config=False)
        else:
            await config.load_kube_config_from_dict(dict(kubeconfig), context, configuration)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise BadInput(_unusable(kubeconfig, error)) from error
    async with ApiClient(configuration) as client:
        client.user_agent = "sluice"
        yield client


def _check_mapping(kubeconfig: Path) -> None:
    if not isinstance(yaml.safe_load(kubeconfig.read_text()), dict):
        raise config.ConfigException("it is empty")


def _unusable(kubeconfig: Kubeconfig | None, error: Exception) -> str:
    if kubeconfig is None:
        return f"not in a pod with a service account ({error}); outside a cluster name a kubeconfig"
    source, problem = kubeconfig if isinstance(kubeconfig, Path) else "content", " ".join(str(error).split())
    return f"kubeconfig {source}: {problem}; it needs a cluster, a user and a current-context (see kubectl config view)"
