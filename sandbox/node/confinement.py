"""A container's securityContext and limits -> what it may do. Pure. Processes are not confined, containers are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sandbox.node.errors import ContainerConfigError

Json = dict[str, Any]

UNITS = {"": Decimal(1), "m": Decimal("0.001")}
UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)}
UNITS |= {unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
QUANTITY = re.compile(r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<unit>m|[kMGTPE]|[KMGTPE]i|)")


@dataclass(frozen=True)
class Confinement:
    """None stands for what the image or the engine says."""

    user: int | None = None
    group: int | None = None
    must_not_be_root: bool = False
    more_groups: tuple[int, ...] = ()
    """Supplementary groups, the pod's fsGroup among them."""
    read_only_root: bool = False
    privilege_escalation: bool = True
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    """Capabilities, without CAP_."""
    memory_bytes: int | None = None


def confinement_of(pod: Json, container: Json) -> Confinement:
    """The container's own securityContext wins over its pod's."""
    for_pod, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    both = for_pod | own
    capabilities = own.get("capabilities") or {}
    groups = [for_pod.get("fsGroup"), *(for_pod.get("supplementalGroups") or [])]
    memory = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return Confinement(
        user=both.get("runAsUser"),
        group=both.get("runAsGroup"),
        must_not_be_root=bool(both.get("runAsNonRoot")),
        more_groups=tuple(group for group in groups if group is not None),
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        privilege_escalation=own.get("allowPrivilegeEscalation", True),
        dropped=tuple(capabilities.get("drop") or []),
        added=tuple(capabilities.get("add") or []),
        memory_bytes=None if memory is None else quantity(str(memory)),
    )


def user_of(confinement: Confinement, image_user: str) -> str:
    """`user[:group]`; `image_user` is the one that the image names, "" for root. Raises ContainerConfigError."""
    name, _, image_group = image_user.partition(":")
    user = name if confinement.user is None else str(confinement.user)
    if confinement.must_not_be_root and user in ("", "0", "root"):
        raise ContainerConfigError("container has runAsNonRoot and image will run as root")
    if confinement.must_not_be_root and not user.isdigit():
        raise ContainerConfigError(f"container has runAsNonRoot and image has non-numeric user ({user})")
    if confinement.group is not None:
        return f"{user or 0}:{confinement.group}"
    return f"{user}:{image_group}" if image_group and confinement.user is None else user


def quantity(text: str) -> int:
    """Kubernetes' notation, rounded up: `1Gi`, `1.5G`, `1e9`. Raises ContainerConfigError."""
    matched = QUANTITY.fullmatch(text)
    if matched is None:
        raise ContainerConfigError(f'"{text}" is not a quantity such as 512Mi or 2Gi')
    return math.ceil(Decimal(matched["number"]) * UNITS[matched["unit"]])
