"""The states of a pod's containers -> its status, as a kubelet writes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    started_at: str


@dataclass(frozen=True)
class Terminated:
    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""


@dataclass(frozen=True)
class ContainerState:
    """One container of a pod. `started`: its startup probe passed, or it has none."""

    name: str
    image: str
    current: Waiting | Running | Terminated
    last: Terminated | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False


def pod_status(
    states: Sequence[ContainerState], *, restart_policy: str, ip: str, start_time: str, now: str, previous: Json
) -> Json:
    """The status subresource; a condition that did not change keeps the transition time that it has in `previous`."""
    phase = pod_phase(states, restart_policy)
    return {
        "phase": phase,
        "conditions": _conditions(states, phase, previous.get("conditions") or [], now),
        "containerStatuses": [_container_status(state) for state in states],
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": start_time,
        "qosClass": previous.get("qosClass", "BestEffort"),
    }


def pod_phase(states: Iterable[ContainerState], restart_policy: str) -> str:
    """A container that waits to be started again counts as having run."""
    currents = [(state.current, state.last) for state in states]
    if any(isinstance(current, Waiting) and last is None for current, last in currents):
        return "Pending"
    if restart_policy == "Always" or not all(isinstance(current, Terminated) for current, _ in currents):
        return "Running"
    codes = [current.exit_code for current, _ in currents if isinstance(current, Terminated)]
    if not any(codes):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" else "Running"


def _conditions(states: Iterable[ContainerState], phase: str, previous: Iterable[Json], now: str) -> list[Json]:
    unready = [state.name for state in states if not state.ready]
    not_ready: Json = {}
    if phase in ("Succeeded", "Failed"):
        not_ready = {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        not_ready = {"reason": "ContainersNotReady", "message": message}
    verdicts: dict[str, Json] = {
        "PodScheduled": {},
        "PodReadyToStartContainers": {},
        "Initialized": {},
        "ContainersReady": not_ready,
        "Ready": not_ready,
    }
    before = {condition["type"]: condition for condition in previous}
    return [_condition(kind, verdict, before.get(kind, {}), now) for kind, verdict in verdicts.items()]


def _condition(kind: str, why_not: Json, before: Json, now: str) -> Json:
    status = "False" if why_not else "True"
    changed = now if before.get("status") != status else before.get("lastTransitionTime", now)
    return {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": changed, **why_not}


def _container_status(state: ContainerState) -> Json:
    return {
        "name": state.name,
        "image": state.image,
        "imageID": state.image,
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restarts,
        "state": _state(state.current),
        "lastState": _state(state.last) if state.last else {},
    }


def _state(state: Waiting | Running | Terminated) -> Json:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(started_at):
            return {"running": {"startedAt": started_at}}
    terminated = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": state.started_at,
        "finishedAt": state.finished_at,
    }
    return {"terminated": terminated | ({"message": state.message} if state.message else {})}


def unschedulable_status(message: str, now: str, previous: Json) -> Json | None:
    """The status of a pod that this node cannot take; None if it says so already."""
    for condition in previous.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("message") == message:
            return None
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }
    return {"phase": "Pending", "conditions": [condition]}
