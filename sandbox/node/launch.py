"""A pod's container as the API describes it -> what a runtime is asked to run. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.node.confinement import Confinement, confinement_of
from sandbox.node.errors import ContainerConfigError

Json = dict[str, Any]
ConfigMaps = Mapping[str, Mapping[str, str]]
"""The data of the pod's namespace's ConfigMaps, by name; a missing one has no entry."""

EXPANSION = re.compile(r"\$(\$|\([A-Za-z_.-][A-Za-z0-9_.-]*\))")
ENTRY = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


@dataclass(frozen=True)
class Volume:
    """A directory of this machine; an emptyDir is `for_everybody`, whichever user a container runs as."""

    directory: Path
    for_everybody: bool = False


@dataclass(frozen=True)
class Mount:
    volume: Volume
    read_only: bool = False


@dataclass(frozen=True)
class Launch:
    """One container, fully resolved. `mounts` has absolute paths in the container."""

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    confinement: Confinement = field(default_factory=Confinement)


def launch_of(pod: Json, container: Json, ip: str, config_maps: ConfigMaps, volumes: Mapping[str, Volume]) -> Launch:
    """
    Raises:
        ContainerConfigError: a reference leads nowhere.
    """
    if container.get("envFrom"):
        raise ContainerConfigError(f"container {container['name']}: envFrom is not supported by this node")
    env = {"HOSTNAME": pod["metadata"]["name"]}
    for entry in container.get("env") or []:
        value = _env_value(pod, entry, ip, config_maps)
        if value is not None:
            env[entry["name"]] = expand(value, env)
    return Launch(
        name=container["name"],
        image=container["image"],
        command=tuple(expand(part, env) for part in container.get("command") or []),
        args=tuple(expand(part, env) for part in container.get("args") or []),
        env=env,
        mounts={
            mount["mountPath"]: Mount(volumes[mount["name"]], bool(mount.get("readOnly")))
            for mount in container.get("volumeMounts") or []
        },
        confinement=confinement_of(pod, container),
    )


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` -> the variable defined before; an unknown name stays as it is; `$$` -> `$`."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else env.get(match[1][1:-1], match[0])

    return EXPANSION.sub(value, text)


def named_config_maps(pod: Json) -> set[str]:
    """The ConfigMaps that the pod's environment and volumes refer to."""
    spec = pod["spec"]
    sources: Iterable[Json] = (e.get("valueFrom") or {} for c in spec["containers"] for e in c.get("env") or [])
    keys = {source["configMapKeyRef"]["name"] for source in sources if "configMapKeyRef" in source}
    return keys | {volume["configMap"]["name"] for volume in spec.get("volumes") or [] if "configMap" in volume}


def _env_value(pod: Json, entry: Json, ip: str, config_maps: ConfigMaps) -> str | None:
    match entry.get("valueFrom"):
        case None:
            return str(entry.get("value") or "")
        case {"fieldRef": reference}:
            return field_value(pod, reference["fieldPath"], ip)
        case {"configMapKeyRef": reference}:
            return _config_map_value(reference, config_maps)
        case source:
            raise ContainerConfigError(f"env {entry['name']}: {', '.join(source)} is not supported by this node")


def _config_map_value(reference: Json, config_maps: ConfigMaps) -> str | None:
    name, key = reference["name"], reference["key"]
    data = config_maps.get(name)
    if data is not None and key in data:
        return data[key]
    if reference.get("optional"):
        return None
    raise ContainerConfigError(
        f'configmap "{name}" not found' if data is None else f'couldn\'t find key {key} in ConfigMap "{name}"'
    )


def field_value(pod: Json, path: str, ip: str) -> str:
    """The downward API's fields."""
    metadata = pod["metadata"]
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": ip,
        "status.hostIP": "127.0.0.1",
    }
    if path in simple:
        return str(simple[path])
    if entry := ENTRY.fullmatch(path):
        return str((metadata.get(entry[1]) or {}).get(entry[2], ""))
    raise ContainerConfigError(f"fieldRef {path} is not supported by this node")
