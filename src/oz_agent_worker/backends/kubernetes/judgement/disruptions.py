"""Pods that the cluster ended, or lost, for reasons of its own. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from oz_agent_worker.backends.kubernetes.views import Condition, ContainerStatus, PodView
from oz_agent_worker.core.outcome import FailureReason, Outcome, failed

from .patience import ObservationPolicy, Trouble
from .wording import said, sentence

__all__ = ["disruption", "lost_pods"]


@dataclass(frozen=True, slots=True)
class _Kind:
    reason: FailureReason
    what: str
    advice: str


_RETRY: Final = "run the task again, or let backend.kubernetes.retry_on_disruption do so"
_EVICTED: Final = _Kind(
    FailureReason.EVICTED,
    "the Pod was evicted{node}",
    f"{_RETRY}; where the node was short of something, let the task ask for what it uses"
    " (backend.kubernetes.resources)",
)
_OVER_LIMIT: Final = _Kind(
    FailureReason.EVICTED,
    "the Pod was evicted{node} because it used more storage than it may",
    "raise backend.kubernetes.workspace_size_limit, or the ephemeral-storage limit in"
    " backend.kubernetes.resources",
)
_DRAINED: Final = _Kind(FailureReason.EVICTED, "the Pod was evicted{node}", _RETRY)
_PREEMPTED: Final = _Kind(
    FailureReason.POD_PREEMPTED,
    "the Pod was preempted{node}: a Pod of a higher priority took its place",
    f"{_RETRY}, or give tasks a higher priority (pod_template.priorityClassName)",
)
_LOST: Final = _Kind(FailureReason.NODE_LOST, "the Pod was lost with its node{on}", _RETRY)
_SHUT_DOWN: Final = _Kind(FailureReason.NODE_LOST, "the Pod was ended because its node{on} shut down", _RETRY)
_UNCONFIRMED: Final = _Kind(
    FailureReason.NODE_LOST,
    "the Pod was given up: its node{on} never confirmed that its containers have ended",
    _RETRY,
)

_BY_POD_REASON: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "Evicted": _EVICTED,  # kubelet, eviction.Reason
        "Preempting": _PREEMPTED,  # kubelet, preemption: room for a critical Pod
        "Terminated": _SHUT_DOWN,  # kubelet, nodeShutdownReason
        "Shutdown": _SHUT_DOWN,  # the same up to 1.21
        "NodeShutdown": _SHUT_DOWN,  # the same up to 1.20
        "NodeLost": _LOST,  # node lifecycle controller, NodeUnreachablePodReason
    }
)
# core/v1, reasons of the condition DisruptionTarget.
_BY_TARGET: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "PreemptionByScheduler": _PREEMPTED,
        "EvictionByEvictionAPI": _DRAINED,  # kubectl drain, cluster-autoscaler, descheduler
        "DeletionByTaintManager": _DRAINED,
        "DeletionByPodGC": _LOST,
        "TerminationByKubelet": _EVICTED,
    }
)
# kubelet, eviction: emptyDirMessageFmt, podEphemeralStorageMessageFmt, containerEphemeralStorageMessageFmt.
_LIMIT_WORDS: Final = ("exceeds the limit", "exceeds the total limit", "exceeded its local ephemeral storage")


def disruption(pod: PodView) -> Outcome | None:
    """The outcome of a Pod that did not end by itself; ``None`` where it did."""
    status = pod.status
    if status is None:
        return None
    target = next((c for c in status.conditions or () if _is_target(c)), None)
    kind = _BY_POD_REASON.get(status.reason or "")
    if kind is not None:
        if kind is _EVICTED and any(words in (status.message or "") for words in _LIMIT_WORDS):
            kind = _OVER_LIMIT
        return _outcome(kind, pod, status.reason, status.message)
    unconfirmed = _is_unconfirmed(pod)
    if target is not None:
        kind = _BY_TARGET.get(target.reason or "", _DRAINED)
        # A NoExecute taint drives Pods away, and stands for a node that is not reachable.
        if unconfirmed and target.reason == "DeletionByTaintManager":
            kind = _LOST
        return _outcome(kind, pod, target.reason, target.message)
    # Pod garbage collector: a Pod of a node that is out of service has no condition of its own.
    return _outcome(_UNCONFIRMED, pod, None, None) if unconfirmed and status.phase == "Failed" else None


def lost_pods(pod: PodView, policy: ObservationPolicy) -> Iterator[Trouble]:
    """Yield what becomes of a Pod whose node does not say that it has ended, or anything at all."""
    status = pod.status
    if status is None or status.phase in {"Succeeded", "Failed"}:
        return
    target = next((c for c in status.conditions or () if _is_target(c)), None)
    grace = float(pod.metadata.deletion_grace_period_seconds or 0) + policy.lost_timeout
    if pod.metadata.deletion_timestamp:
        what = (
            f"the Pod was told to end {grace:g} s ago and its node{_on(pod)} does not confirm that it has"
            f"{said(target.reason, target.message) if target else ''}"
        )
    elif status.phase == "Unknown":
        what = f"the node{_on(pod)} has told nothing of the Pod for {grace:g} s"
    else:
        return
    text = f"{what}{said(status.reason, status.message)}: see whether the node is ready, and {_RETRY}"
    key = f"{pod.identity}/lost"
    yield Trouble(key, grace, failed(FailureReason.NODE_LOST, sentence(text)))


def _outcome(kind: _Kind, pod: PodView, reason: str | None, message: str | None) -> Outcome:
    node = f" from node {pod.spec.node_name}" if pod.spec and pod.spec.node_name else ""
    what = kind.what.format(node=node, on=_on(pod))
    return failed(kind.reason, f"{sentence(what)}{said(reason, message)}: {kind.advice}")


def _on(pod: PodView) -> str:
    return f" {pod.spec.node_name}" if pod.spec and pod.spec.node_name else ""


def _is_target(condition: Condition) -> bool:
    # One that did not come about is set back to False (disruption controller).
    return condition.type == "DisruptionTarget" and condition.status == "True"


def _is_unconfirmed(pod: PodView) -> bool:
    """Whether a container runs, for all that the API server knows."""
    status = pod.status
    containers: tuple[ContainerStatus, ...] = (status.container_statuses or ()) if status else ()
    return any(c.state is not None and c.state.running is not None for c in containers)
