"""A launch -> what a Docker Engine is asked to create. Pure."""

from __future__ import annotations

from typing import Any

from sandbox.node.confinement import user_of
from sandbox.node.launch import Launch

Json = dict[str, Any]


def container_config(launch: Launch, image_user: str) -> Json:
    """The body of `POST /containers/create`. Pods' addresses are this machine's, so that its network is theirs.

    Raises:
        ContainerConfigError: the image would run as a user that the pod rules out.
    """
    return {
        "Image": launch.image,
        # An entrypoint of the pod's leaves the image's command out, as Kubernetes does.
        "Entrypoint": list(launch.command) or None,
        "Cmd": list(launch.args) or None,
        "Env": [f"{name}={value}" for name, value in launch.env.items()],
        "User": user_of(launch.confinement, image_user),
        "HostConfig": _host_config(launch),
    }


def _host_config(launch: Launch) -> Json:
    confinement = launch.confinement
    return {
        "NetworkMode": "host",
        # The node follows the output and keeps it; nobody would read a second copy.
        "LogConfig": {"Type": "none"},
        "Mounts": [
            {"Type": "bind", "Source": str(mount.volume.directory), "Target": path, "ReadOnly": mount.read_only}
            for path, mount in launch.mounts.items()
        ],
        "ReadonlyRootfs": confinement.read_only_root,
        "CapAdd": list(confinement.added),
        "CapDrop": list(confinement.dropped),
        "SecurityOpt": [] if confinement.privilege_escalation else ["no-new-privileges"],
        "GroupAdd": [str(group) for group in confinement.more_groups],
        # Swap as well: a pod that exceeds its limit is ended, not slowed down.
        "Memory": confinement.memory_bytes or 0,
        "MemorySwap": confinement.memory_bytes or 0,
    }
