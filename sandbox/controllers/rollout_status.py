"""The status of a Deployment: counts, and the conditions Available and Progressing with Kubernetes' reasons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.controllers.plan import condition, earliest, is_deleting, timestamp
from sandbox.kubernetes_api import Object

_COMPLETE = "NewReplicaSetAvailable"


@dataclass(frozen=True)
class Shown:
    """A Deployment's status, and when the progress deadline will be over (None: it does not run)."""

    status: Object
    again_seconds: float | None


def status(
    deployment: Object,
    new: Object | None,
    replica_sets: Sequence[Object],
    pods: Sequence[Object],
    bounds: tuple[int, int],
    now: datetime,
) -> Shown:
    """The status that follows from the ReplicaSets. `bounds` is (maxSurge, maxUnavailable) in pods."""
    counts = _counts(deployment, new, replica_sets, pods)
    wanted = deployment["spec"].get("replicas", 1)
    enough = counts.get("availableReplicas", 0) >= wanted - bounds[1]
    available = _available(deployment, enough, now)
    progressing, again = _progressing(deployment, new, counts, now)
    conditions = [one for one in (available, progressing) if one is not None]
    return Shown({**counts, "conditions": conditions}, again)


def _counts(deployment: Object, new: Object | None, replica_sets: Sequence[Object], pods: Iterable[Object]) -> Object:
    available = _total(replica_sets, "availableReplicas")
    missing = max(0, sum(one["spec"]["replicas"] for one in replica_sets) - available)
    counts = {
        "replicas": _total(replica_sets, "replicas"),
        "updatedReplicas": _total([new] if new else [], "replicas"),
        "readyReplicas": _total(replica_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": missing,
    }
    return {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "terminatingReplicas": sum(is_deleting(pod) for pod in pods),
        **{key: count for key, count in counts.items() if count},
    }


def _total(replica_sets: Iterable[Object], key: str) -> int:
    return sum((one.get("status") or {}).get(key, 0) for one in replica_sets)


def _available(deployment: Object, enough: bool, now: datetime) -> Object:
    if enough:
        return _condition(deployment, "Available", "True", "MinimumReplicasAvailable", _HAS_MINIMUM, now)
    return _condition(deployment, "Available", "False", "MinimumReplicasUnavailable", _LACKS_MINIMUM, now)


_HAS_MINIMUM = "Deployment has minimum availability."
_LACKS_MINIMUM = "Deployment does not have minimum availability."


def _progressing(
    deployment: Object, new: Object | None, counts: Object, now: datetime
) -> tuple[Object | None, float | None]:
    """The Progressing condition, and the seconds to its deadline while the rollout runs."""
    before = condition(deployment, "Progressing")
    if new is None:
        return before, None
    name = f'ReplicaSet "{new["metadata"]["name"]}"'
    if _is_complete(deployment, counts):
        return _condition(
            deployment, "Progressing", "True", _COMPLETE, f"{name} has successfully progressed.", now
        ), None
    if before is None or _has_moved(deployment, counts):
        moved = _condition(deployment, "Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", now)
        return {**moved, "lastUpdateTime": timestamp(now)}, _deadline_seconds(deployment)
    if before["reason"] == _COMPLETE and counts.get("updatedReplicas", 0) == counts.get("replicas", 0):
        return before, None  # complete before; a pod that fails later is not a rollout without progress
    since = datetime.fromisoformat(before["lastUpdateTime"])
    left = (since + timedelta(seconds=_deadline_seconds(deployment)) - now).total_seconds()
    if left > 0 or before["status"] == "False":
        return before, earliest(left if left > 0 else None)
    late = f"{name} has timed out progressing."
    return _condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", late, now), None


def _deadline_seconds(deployment: Object) -> float:
    return float(deployment["spec"].get("progressDeadlineSeconds", 600))


def _is_complete(deployment: Object, counts: Object) -> bool:
    wanted = deployment["spec"].get("replicas", 1)
    return all(counts.get(key, 0) == wanted for key in ("updatedReplicas", "replicas", "availableReplicas"))


def _has_moved(deployment: Object, counts: Object) -> bool:
    """Whether the rollout advanced since the status was written: more new pods, fewer old ones, more serving ones."""
    before = deployment.get("status") or {}
    if before.get("observedGeneration") != counts["observedGeneration"]:
        return True
    old_before = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    old_now = counts.get("replicas", 0) - counts.get("updatedReplicas", 0)
    grown = [
        counts.get(key, 0) > before.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas")
    ]
    return any(grown) or old_now < old_before


def _condition(deployment: Object, type_: str, value: str, reason: str, message: str, now: datetime) -> Object:
    """The condition; its times stay as they are when it says what it said before."""
    before = condition(deployment, type_)
    stated = {"type": type_, "status": value, "reason": reason, "message": message}
    if before is not None and all(before.get(key) == stated[key] for key in ("status", "reason", "message")):
        return before
    kept = before is not None and before["status"] == value
    transition = before["lastTransitionTime"] if before is not None and kept else timestamp(now)
    return {**stated, "lastUpdateTime": timestamp(now), "lastTransitionTime": transition}
