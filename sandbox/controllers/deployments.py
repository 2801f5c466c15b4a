"""The Deployment controller: one ReplicaSet for each pod template, and replicas moved from the old ones to the new one.

The rules are those of kube-controller-manager: never more than `maxSurge` above nor `maxUnavailable` below the wanted
number; Recreate waits until every old pod is gone; a rollout that makes no progress for its deadline is reported.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sandbox.controllers import rollout_status
from sandbox.controllers.plan import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Create,
    Delete,
    Patch,
    Plan,
    Write,
    is_deleting,
    owner_reference,
    status_changes,
    timestamp,
)
from sandbox.kubernetes_api import EVENTS, Object

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAXIMUM = "deployment.kubernetes.io/max-replicas"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Rollout:
    """A Deployment with the ReplicaSets that it controls, the new one (for its present template) apart."""

    deployment: Object
    new: Object | None
    old: tuple[Object, ...]
    pods: tuple[Object, ...]

    @property
    def replicas(self) -> int:
        """The wanted number of pods."""
        return int(self.deployment["spec"].get("replicas", 1))

    @property
    def all(self) -> tuple[Object, ...]:
        """All its ReplicaSets."""
        return (*self.old, self.new) if self.new else self.old


def reconcile(deployment: Object, replica_sets: Sequence[Object], pods: Sequence[Object], now: datetime) -> Plan:
    """The next writes of a rollout; `replica_sets` and `pods` are those that the Deployment controls."""
    rollout = _rollout(deployment, replica_sets, pods)
    if is_deleting(deployment):
        return Plan()
    scaling = () if deployment["spec"].get("paused") else _scaling(rollout, now)
    shown = rollout_status.status(rollout.deployment, rollout.new, rollout.all, rollout.pods, _bounds(deployment), now)
    changes: Object = {}
    if (patch := status_changes(deployment.get("status") or {}, shown.status)) is not None:
        changes["status"] = patch
    revision = _revision(rollout)
    if revision != deployment["metadata"].get("annotations", {}).get(REVISION):
        changes["metadata"] = {"annotations": {REVISION: revision}}
    written = (Patch(DEPLOYMENTS, deployment, changes, "status"),) if changes else ()
    return Plan((*scaling, *written), shown.again_seconds)


def _rollout(deployment: Object, replica_sets: Sequence[Object], pods: Sequence[Object]) -> Rollout:
    ordered = sorted(replica_sets, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))
    template = deployment["spec"]["template"]
    new = next((one for one in ordered if _template_of(one) == template), None)
    return Rollout(deployment, new, tuple(one for one in ordered if one is not new), tuple(pods))


def _template_of(replica_set: Object) -> Object:
    """The template as the Deployment states it: without the hash that tells the ReplicaSets apart."""
    template = replica_set["spec"]["template"]
    labels = {key: value for key, value in template["metadata"].get("labels", {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def template_hash(template: Object) -> str:
    """The value of the label pod-template-hash: ten letters that are safe in a name."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def _bounds(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of pods: surge is rounded up, unavailable down, and both are never 0."""
    strategy, replicas = deployment["spec"].get("strategy", {}), deployment["spec"].get("replicas", 1)
    if strategy.get("type") == "Recreate":
        return 0, replicas
    rolling = strategy.get("rollingUpdate", {})
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return -(-percent * replicas // 100) if up else percent * replicas // 100


def _scaling(rollout: Rollout, now: datetime) -> tuple[Write, ...]:
    if rollout.deployment["spec"].get("strategy", {}).get("type") == "Recreate":
        return _recreate(rollout, now)
    grown = _grow_new(rollout, now)
    return grown or (*_shrink_old(rollout, now), *_forget_history(rollout))


def _recreate(rollout: Rollout, now: datetime) -> tuple[Write, ...]:
    active = [one for one in rollout.old if one["spec"]["replicas"]]
    if active:
        return tuple(write for one in active for write in _scaled(rollout, one, 0, now))
    uid = rollout.new["metadata"]["uid"] if rollout.new else ""
    if any(pod["metadata"]["ownerReferences"][0]["uid"] != uid for pod in rollout.pods):
        return ()  # an old pod still runs
    if rollout.new is None:
        return _created(rollout, rollout.replicas, now)
    return (*_scaled(rollout, rollout.new, rollout.replicas, now), *_forget_history(rollout))


def _grow_new(rollout: Rollout, now: datetime) -> tuple[Write, ...]:
    surge, _ = _bounds(rollout.deployment)
    room = rollout.replicas + surge - sum(one["spec"]["replicas"] for one in rollout.all)
    if rollout.new is None:
        return _created(rollout, max(0, min(room, rollout.replicas)), now)
    present = rollout.new["spec"]["replicas"]
    wanted = rollout.replicas if present > rollout.replicas else min(rollout.replicas, present + max(0, room))
    return _scaled(rollout, rollout.new, wanted, now)


def _shrink_old(rollout: Rollout, now: datetime) -> tuple[Write, ...]:
    """Old replicas that can go: first those that do not serve, then as many as the new ones make up for."""
    if rollout.new is None:
        return ()
    _, unavailable = _bounds(rollout.deployment)
    needed = rollout.replicas - unavailable
    missing = rollout.new["spec"]["replicas"] - _available(rollout.new)
    spare = sum(one["spec"]["replicas"] for one in rollout.all) - needed - missing
    serving_spare = sum(_available(one) for one in rollout.all) - needed
    writes: list[Write] = []
    for one in rollout.old:
        replicas = one["spec"]["replicas"]
        idle = min(max(0, replicas - _available(one)), max(0, spare))
        serving = min(replicas - idle, max(0, serving_spare), max(0, spare - idle))
        spare, serving_spare = spare - idle - serving, serving_spare - serving
        writes.extend(_scaled(rollout, one, replicas - idle - serving, now))
    return tuple(writes)


def _available(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))


def _forget_history(rollout: Rollout) -> tuple[Write, ...]:
    """Old ReplicaSets beyond the history limit, oldest first, once they are empty."""
    limit = rollout.deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [
        one for one in rollout.old if not one["spec"]["replicas"] and not (one.get("status") or {}).get("replicas")
    ]
    return tuple(
        Delete(REPLICA_SETS, one) for one in sorted(empty, key=_revision_of)[: max(0, len(rollout.old) - limit)]
    )


def _revision_of(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, 0))


def _revision(rollout: Rollout) -> str:
    """The revision of the present template: one more than any before it, unless it is the last one already."""
    newest_old = max((_revision_of(one) for one in rollout.old), default=0)
    present = _revision_of(rollout.new) if rollout.new else 0
    return str(max(present, newest_old + 1))


def _created(rollout: Rollout, replicas: int, now: datetime) -> tuple[Write, ...]:
    deployment = rollout.deployment
    metadata, template = deployment["metadata"], deployment["spec"]["template"]
    label = {HASH_LABEL: template_hash(template)}
    labels = {**template["metadata"].get("labels", {}), **label}
    selector = deployment["spec"]["selector"]
    name = f"{metadata['name']}-{label[HASH_LABEL]}"
    spec: Object = {
        "replicas": replicas,
        "selector": {**selector, "matchLabels": {**selector.get("matchLabels", {}), **label}},
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
    }
    if "minReadySeconds" in deployment["spec"]:
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    body = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": _annotations(rollout),
            "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": spec,
    }
    return (Create(REPLICA_SETS, body), _event(deployment, name, 0, replicas, now))


def _annotations(rollout: Rollout) -> dict[str, str]:
    surge, _ = _bounds(rollout.deployment)
    given = rollout.deployment["metadata"].get("annotations", {})
    return {
        **{key: value for key, value in given.items() if key not in (REVISION, _LAST_APPLIED)},
        REVISION: _revision(rollout),
        _DESIRED: str(rollout.replicas),
        _MAXIMUM: str(rollout.replicas + surge),
    }


def _scaled(rollout: Rollout, replica_set: Object, replicas: int, now: datetime) -> tuple[Write, ...]:
    """The ReplicaSet with that many replicas; the new one also takes the revision and the Deployment's numbers."""
    present = replica_set["spec"]["replicas"]
    given = replica_set["metadata"].get("annotations", {})
    wanted = _annotations(rollout) if replica_set is rollout.new else {}
    changes: Object = {} if present == replicas else {"spec": {"replicas": replicas}}
    if changed := {key: value for key, value in wanted.items() if given.get(key) != value}:
        changes["metadata"] = {"annotations": changed}
    if not changes:
        return ()
    patch = Patch(REPLICA_SETS, replica_set, changes)
    if present == replicas:
        return (patch,)
    return (patch, _event(rollout.deployment, replica_set["metadata"]["name"], present, replicas, now))


def _event(deployment: Object, replica_set: str, before: int, after: int, now: datetime) -> Create:
    metadata, direction = deployment["metadata"], "up" if after >= before else "down"
    about = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return Create(
        EVENTS,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", **about},
            "type": "Normal",
            "reason": "ScalingReplicaSet",
            "message": f"Scaled {direction} replica set {replica_set} from {before} to {after}",
            "source": {"component": "deployment-controller"},
            "count": 1,
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
        },
    )
