"""A pod's volumes: emptyDir and configMap as directories of the node, hostPath as the machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.node.errors import ContainerConfigError
from sandbox.node.launch import ConfigMaps, Volume

Json = dict[str, Any]


def make_volume(spec: Json, directory: Path, config_maps: ConfigMaps) -> Volume:
    """Make what the pod's volume `spec` describes; `directory` is for what the node keeps of it.

    Raises:
        ContainerConfigError: it refers to something that is not there, or that this node cannot give.
    """
    match spec:
        case {"emptyDir": _}:
            directory.mkdir(parents=True, exist_ok=True)
            return Volume(directory, for_everybody=True)
        case {"configMap": source}:
            _write(directory, source, config_maps)
            return Volume(directory)
        case {"hostPath": source}:
            return Volume(_host_path(source))
    raise ContainerConfigError(
        f"volume {spec['name']}: only emptyDir, configMap and hostPath are supported by this node"
    )


def _write(directory: Path, source: Json, config_maps: ConfigMaps) -> None:
    name = source["name"]
    if name not in config_maps and not source.get("optional"):
        raise ContainerConfigError(f'configmap "{name}" not found')
    directory.mkdir(parents=True, exist_ok=True)
    data: Mapping[str, str] = config_maps.get(name, {})
    for key, text in data.items():
        (directory / key).write_text(text)


def _host_path(source: Json) -> Path:
    path, kind = Path(source["path"]), source.get("type") or "Directory"
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind != "Directory":
        raise ContainerConfigError(
            f"hostPath {path}: type {kind} is not supported by this node, use Directory or DirectoryOrCreate"
        )
    if not path.is_dir():
        raise ContainerConfigError(f"hostPath type check failed: {path} is not a directory")
    return path
