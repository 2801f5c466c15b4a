"""What the sandbox consists of, as plain data: its settings, and the processes that they mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
NAMES = ("apiserver", "controllers", "node", "gateway")
"""In the order of starting; stopping goes the other way round."""
RUNTIMES = ("process", "docker")
"""What pods run as: processes of this machine, or containers of a Docker Engine."""


@dataclass(frozen=True)
class Ports:
    """Each is an option of `up`; 0 means: a free one, kept from then on."""

    api: int
    gateway: int
    metrics: int
    node: int


@dataclass(frozen=True)
class Settings:
    """What the processes are started with; absolute paths."""

    state: Path
    bundles: Path
    runtime_path: Path
    ports: Ports
    runtime: str = "process"
    docker_host: str = ""
    """Address of the engine; empty where pods run as processes."""

    @classmethod
    def of(cls, state: Path, described: dict[str, Any]) -> Settings:
        """Those that a `sandbox.json` describes."""
        return cls(
            state,
            bundles=Path(described["bundles"]),
            runtime_path=Path(described["runtime_path"]),
            ports=Ports(**described["ports"]),
            # One that was written before there was a choice says nothing of it.
            runtime=described.get("runtime", "process"),
            docker_host=described.get("docker_host", ""),
        )

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def node(self) -> Path:
        return self.state / "node"

    def described(self) -> dict[str, Any]:
        """`sandbox.json`: where everything is."""
        ports = self.ports
        return {
            "api_url": f"http://{HOST}:{ports.api}",
            "gateway_url": f"http://{HOST}:{ports.gateway}",
            "metrics_url": f"http://{HOST}:{ports.metrics}/metrics",
            "node_url": f"http://{HOST}:{ports.node}",
            "federate_url": f"http://{HOST}:{ports.node}/federate",
            "kubeconfig": str(self.kubeconfig),
            "access_log": str(self.state / "gateway" / "access.log"),
            "state": str(self.state),
            "bundles": str(self.bundles),
            "runtime_path": str(self.runtime_path),
            "runtime": self.runtime,
            "docker_host": self.docker_host,
            "ports": asdict(ports),
        }


@dataclass(frozen=True)
class Component:
    """One process: the module it runs, its ports by the option that chooses them, and where it reports health."""

    name: str
    arguments: tuple[str, ...]
    ports: dict[str, int]
    health_url: str | None


def components(settings: Settings) -> tuple[Component, ...]:
    """One for each of `NAMES`."""
    state, ports = settings.state, settings.ports
    kubeconfig = ("--kubeconfig", str(settings.kubeconfig))
    api = ("--port", str(ports.api), "--database", str(state / "cluster.sqlite"), *kubeconfig)
    node = (
        *(*kubeconfig, "--state", str(settings.node), "--port", str(ports.node)),
        *("--runtime", settings.runtime, "--docker-host", settings.docker_host),
        *("--bundles", str(settings.bundles), "--runtime-path", str(settings.runtime_path)),
    )
    gateway = (
        *(*kubeconfig, "--state", str(state / "gateway")),
        *("--port", str(ports.gateway), "--metrics-port", str(ports.metrics)),
    )
    metrics = {"--gateway-port": ports.gateway, "--metrics-port": ports.metrics}
    return (
        Component("apiserver", api, {"--api-port": ports.api}, f"http://{HOST}:{ports.api}/readyz"),
        Component("controllers", kubeconfig, {}, None),
        Component("node", node, {"--node-port": ports.node}, f"http://{HOST}:{ports.node}/healthz"),
        Component("gateway", gateway, metrics, f"http://{HOST}:{ports.metrics}/healthz"),
    )
