"""A Pod's ``status`` in the shapes that a kubelet writes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .states import ContainerState, Pod, Running, Terminated, Waiting, is_native_sidecar, phase, timestamp

__all__ = ["HOST_IP", "PodFacts", "pod_status", "unscheduled_status"]

HOST_IP: Final = "127.0.0.1"

EVICTED: Final = "Evicted"


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a kubelet knows of a Pod besides its containers' states.

    ``reason`` and ``message`` are the Pod's own, such as ``Evicted``; they make its
    phase Failed, whatever its containers say.
    """

    ip: str
    started: datetime
    reason: str = ""
    message: str = ""


def pod_status(
    pod: Pod, states: Mapping[str, ContainerState], facts: PodFacts, now: datetime
) -> dict[str, Any]:
    """Return the whole status of a Pod that is bound to a node."""
    spec = pod["spec"]
    current = "Failed" if facts.reason else phase(spec, states)
    status: dict[str, Any] = {
        "observedGeneration": pod["metadata"].get("generation", 1),
        "phase": current,
        "conditions": _conditions(pod, states, facts, current, now),
        "hostIP": HOST_IP,
        "hostIPs": [{"ip": HOST_IP}],
        "podIP": facts.ip,
        "podIPs": [{"ip": facts.ip}],
        "startTime": timestamp(facts.started),
        "containerStatuses": [_container_status(pod, item, states) for item in spec["containers"]],
        "qosClass": pod["status"].get("qosClass", "BestEffort"),
    }
    if inits := spec.get("initContainers"):
        status["initContainerStatuses"] = [_init_status(pod, item, states) for item in inits]
    why = {"reason": facts.reason, "message": facts.message}
    return status | {name: value for name, value in why.items() if value}


def unscheduled_status(message: str, now: datetime) -> dict[str, Any]:
    """Return what the scheduler writes about a Pod that fits nowhere."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": timestamp(now),
    }
    return {"phase": "Pending", "conditions": [condition]}


def _container_status(
    pod: Pod, container: Mapping[str, Any], states: Mapping[str, ContainerState]
) -> dict[str, Any]:
    name = container["name"]
    state = states[name]
    report = state.report()
    status = {
        "name": name,
        "state": report,
        "lastState": {},
        "ready": isinstance(state, Running),
        "started": isinstance(state, Running),
        "restartCount": 0,
        "image": container["image"],
        "imageID": "",
    }
    if isinstance(state, Waiting):
        return status
    identity = {"containerID": f"containerd://{pod['metadata']['uid']}-{name}"}
    if isinstance(state, Terminated):
        report["terminated"] |= identity
    return status | identity | {"imageID": f"{container['image']}@sha256:{'0' * 64}"}


def _init_status(
    pod: Pod, container: Mapping[str, Any], states: Mapping[str, ContainerState]
) -> dict[str, Any]:
    status = _container_status(pod, container, states)
    if not is_native_sidecar(container):
        # An ordinary init container is ready when it is done, and "started" is for what keeps running.
        status["ready"] = _succeeded(states[container["name"]])
    return status


def _conditions(
    pod: Pod, states: Mapping[str, ContainerState], facts: PodFacts, current: str, now: datetime
) -> list[dict[str, Any]]:
    spec = pod["spec"]
    ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(current)
    inits = spec.get("initContainers") or []
    incomplete = [item["name"] for item in inits if not _initialized(item, states[item["name"]])]
    unready = [item["name"] for item in spec["containers"] if not isinstance(states[item["name"]], Running)]
    began = any(isinstance(state, Running | Terminated) for state in states.values())
    not_ready = ended or "ContainersNotReady"
    unready_message = "" if ended else f"containers with unready status: [{' '.join(unready)}]"
    found = [
        _condition("PodReadyToStartContainers", began and not ended),
        _condition(
            "Initialized",
            not incomplete,
            ended if not incomplete and ended == "PodCompleted" else "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(incomplete)}]",
        ),
        _condition("Ready", not unready and not ended, not_ready, unready_message),
        _condition("ContainersReady", not unready and not ended, not_ready, unready_message),
        _condition("PodScheduled", True),
    ]
    if facts.reason == EVICTED:
        disruption = _condition("DisruptionTarget", True)
        found.append(disruption | {"reason": "TerminationByKubelet", "message": facts.message})
    return [_stamped(condition, pod, now) for condition in found]


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> dict[str, Any]:
    """Return a condition; reason and message say why it does not hold, ``PodCompleted`` why it does."""
    condition: dict[str, Any] = {"type": kind, "status": "True" if holds else "False"}
    if not holds and message:
        condition["message"] = message
    if reason and (not holds or reason == "PodCompleted"):
        condition["reason"] = reason
    return condition


def _stamped(condition: dict[str, Any], pod: Pod, now: datetime) -> dict[str, Any]:
    """Add the time of the last transition: the previous one while the condition's status stays."""
    moment = timestamp(now)
    for previous in pod["status"].get("conditions") or []:
        if previous["type"] == condition["type"] and previous["status"] == condition["status"]:
            moment = previous["lastTransitionTime"]
    return condition | {"lastProbeTime": None, "lastTransitionTime": moment}


def _initialized(container: Mapping[str, Any], state: ContainerState) -> bool:
    if is_native_sidecar(container):
        return isinstance(state, Running | Terminated)
    return _succeeded(state)


def _succeeded(state: ContainerState) -> bool:
    return isinstance(state, Terminated) and state.exit_code == 0
