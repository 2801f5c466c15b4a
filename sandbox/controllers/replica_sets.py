"""The ReplicaSet controller: as many pods as the specification says, and a status that counts them."""

from collections.abc import Sequence
from datetime import datetime

from sandbox.controllers.plan import (
    REPLICA_SETS,
    Create,
    Delete,
    Patch,
    Plan,
    Write,
    earliest,
    is_active,
    is_deleting,
    is_ready,
    owner_reference,
    seconds_until_available,
    status_changes,
)
from sandbox.kubernetes_api import PODS, Object


def reconcile(replica_set: Object, pods: Sequence[Object], now: datetime) -> Plan:
    """Writes that bring `pods` (all that this ReplicaSet controls) to the wanted number, and the status."""
    active = [pod for pod in pods if is_active(pod)]
    wanted = replica_set["spec"].get("replicas", 1)
    changes: list[Write] = []
    if not is_deleting(replica_set):
        changes += [_new_pod(replica_set) for _ in range(wanted - len(active))]
        surplus = sorted(active, key=_worth)[: max(0, len(active) - wanted)]
        changes += [Delete(PODS, pod) for pod in surplus]
    status, again = _status(replica_set, pods, active, now)
    patch = status_changes(replica_set.get("status") or {}, status)
    if patch is not None:
        changes.append(Patch(REPLICA_SETS, replica_set, {"status": patch}, "status"))
    return Plan(tuple(changes), again)


def _new_pod(replica_set: Object) -> Create:
    metadata, template = replica_set["metadata"], replica_set["spec"]["template"]
    given = template.get("metadata", {})
    return Create(
        PODS,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                **{key: given[key] for key in ("labels", "annotations") if key in given},
                "ownerReferences": [owner_reference(replica_set, "apps/v1", "ReplicaSet")],
            },
            "spec": template["spec"],
        },
    )


def _worth(pod: Object) -> tuple[bool, bool, bool, str, str]:
    """Order of removal: without node, not running, not ready come first; of equals the youngest."""
    created = pod["metadata"]["creationTimestamp"]
    youngest_first = "".join(chr(255 - ord(letter)) for letter in created)
    running = pod.get("status", {}).get("phase") == "Running"
    return bool(pod["spec"].get("nodeName")), running, is_ready(pod), youngest_first, pod["metadata"]["name"]


def _status(
    replica_set: Object, pods: Sequence[Object], active: Sequence[Object], now: datetime
) -> tuple[Object, float | None]:
    min_ready = replica_set["spec"].get("minReadySeconds", 0)
    waits = [seconds_until_available(pod, min_ready, now) for pod in active]
    available = sum(wait == 0 for wait in waits)
    ready = sum(is_ready(pod) for pod in active)
    status: Object = {
        "observedGeneration": replica_set["metadata"].get("generation", 0),
        "replicas": len(active),
        "terminatingReplicas": sum(is_deleting(pod) for pod in pods),
    }
    counts = {"fullyLabeledReplicas": len(active), "readyReplicas": ready, "availableReplicas": available}
    status |= {key: count for key, count in counts.items() if count}
    return status, earliest(*(wait for wait in waits if wait))
