"""Create the objects of a directory of manifests. What exists is left as it is: releases own parts of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sandbox.kubernetes_api import KubernetesApi, KubernetesApiError, Resource

Json = dict[str, Any]


class ManifestError(Exception):
    """A manifest cannot be read or is refused; the message names the file."""


async def create_missing(kubeconfig: Path, directory: Path) -> list[str]:
    """Lines such as `VirtualService ai-inference/arithmetic created`.

    Raises:
        ManifestError: the directory has no manifests, one is not YAML, or the API server refuses it.
    """
    async with KubernetesApi.connect(kubeconfig) as api:
        return [await _create(api, path, item) for path, item in _manifests(directory)]


def _manifests(directory: Path) -> list[tuple[Path, Json]]:
    """In the order of the kustomization, else by file name."""
    kustomization = directory / "kustomization.yaml"
    if kustomization.exists():
        paths = [directory / name for name in _load(kustomization)[0].get("resources") or []]
    else:
        paths = sorted(directory.glob("*.yaml"))
    found = [(path, item) for path in paths for item in _load(path)]
    if not found:
        raise ManifestError(f"{directory} holds no manifests (*.yaml)")
    return found


def _load(path: Path) -> list[Json]:
    try:
        return [item for item in yaml.safe_load_all(path.read_text()) if item]
    except (OSError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {error}") from error


async def _create(api: KubernetesApi, path: Path, item: Json) -> str:
    try:
        resource = await api.resource(item["apiVersion"], item["kind"])
        namespace = item["metadata"].get("namespace", "default") if resource.namespaced else None
        title = f"{item['kind']} {f'{namespace}/' if namespace else ''}{item['metadata']['name']}"
        return f"{title} {await _created(api, resource, namespace, item)}"
    except KeyError as error:
        raise ManifestError(f"{path}: an object without {error}") from error
    except KubernetesApiError as error:
        raise ManifestError(f"{path}: {error}") from error


async def _created(api: KubernetesApi, resource: Resource, namespace: str | None, item: Json) -> str:
    try:
        await api.create(resource, namespace, item)
    except KubernetesApiError as error:
        if error.status != 409:
            raise
        return "exists, left as it is"
    return "created"
