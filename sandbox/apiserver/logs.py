"""Pod logs: passed on from the node that runs the pod, as a real API server does."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.apiserver import status
from sandbox.apiserver.kinds import NODE, POD, Object
from sandbox.apiserver.registry import Registry
from sandbox.apiserver.status import ApiError

_PASSED_ON = ("follow", "tailLines", "previous", "sinceSeconds", "sinceTime", "timestamps", "limitBytes")


@dataclass(frozen=True)
class LogSource:
    """Where the log of a container is read."""

    url: str
    parameters: Mapping[str, str]


def source(registry: Registry, namespace: str, name: str, query: Mapping[str, str]) -> LogSource:
    """The address of the container's log on its node.

    Raises:
        ApiError: 400 when the container or the node cannot be told, 404 without such a pod or node.
    """
    pod = registry.get(POD, namespace, name)
    container = _container(pod, query.get("container", ""))
    node_name = pod["spec"].get("nodeName")
    if not node_name:
        raise status.bad_request(f"pod {name} does not have a host assigned")
    node = registry.get(NODE, None, node_name)
    parameters = {key: query[key] for key in _PASSED_ON if key in query}
    return LogSource(f"http://{_address(node)}/containerLogs/{namespace}/{name}/{container}", parameters)


def _container(pod: Object, wanted: str) -> str:
    names = [container["name"] for key in ("containers", "initContainers") for container in pod["spec"].get(key, ())]
    if wanted and wanted not in names:
        raise status.bad_request(f"container {wanted} is not valid for pod {pod['metadata']['name']}")
    if not wanted and len(names) > 1:
        listed = " ".join(names)
        raise status.bad_request(
            f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{listed}]"
        )
    return str(wanted or names[0])


def _address(node: Object) -> str:
    found = node.get("status", {})
    addresses = [one["address"] for one in found.get("addresses", ()) if one.get("type") == "InternalIP"]
    port = found.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
    if not addresses or not port:
        name = node["metadata"]["name"]
        raise ApiError(
            500, "InternalError", f'node "{name}" states no InternalIP and kubelet port in its status: is it running?'
        )
    return f"{addresses[0]}:{port}"
