"""Disruptions: Pods that the cluster ended or lost for reasons of its own. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView

from .finding import Finding, PodProblem
from .messages import cluster_message, quote_cluster
from .policy import ObservationPolicy

__all__ = [
    "DISRUPTION_EVENTS",
    "disruption",
    "disruption_from_events",
    "disruption_target",
    "is_disrupted",
    "lost_pod_problems",
]


@dataclass(frozen=True, slots=True)
class _DisruptionKind:
    reason: FailureReason
    what: str
    advice: str


_RETRY: Final = "run the task again, or let backend.kubernetes.retry_on_disruption do so"
_EVICTED: Final = _DisruptionKind(
    FailureReason.EVICTED,
    "the Pod was evicted{node}",
    f"{_RETRY}; where the node was short of something, let the task ask for what it uses"
    " (backend.kubernetes.resources)",
)
_OVER_LIMIT: Final = _DisruptionKind(
    FailureReason.EVICTED,
    "the Pod was evicted{node} because it used more storage than it may",
    "raise backend.kubernetes.workspace_size_limit, or the ephemeral-storage limit in"
    " backend.kubernetes.resources",
)
_DRAINED: Final = _DisruptionKind(FailureReason.EVICTED, "the Pod was evicted{node}", _RETRY)
_PREEMPTED: Final = _DisruptionKind(
    FailureReason.POD_PREEMPTED,
    "the Pod was preempted{node}: a Pod of a higher priority took its place",
    f"{_RETRY}, or give tasks a higher priority (pod_template.priorityClassName)",
)
_LOST: Final = _DisruptionKind(FailureReason.NODE_LOST, "the Pod was lost with its node{on}", _RETRY)
_SHUT_DOWN: Final = _DisruptionKind(
    FailureReason.NODE_LOST, "the Pod was ended because its node{on} shut down", _RETRY
)
_UNCONFIRMED: Final = _DisruptionKind(
    FailureReason.NODE_LOST,
    "the Pod was given up: its node{on} never confirmed that its containers have ended",
    _RETRY,
)

_BY_POD_REASON: Final[Mapping[str, _DisruptionKind]] = MappingProxyType(
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
_BY_TARGET: Final[Mapping[str, _DisruptionKind]] = MappingProxyType(
    {
        "PreemptionByScheduler": _PREEMPTED,
        "EvictionByEvictionAPI": _DRAINED,  # kubectl drain, cluster-autoscaler, descheduler
        "DeletionByTaintManager": _DRAINED,
        "DeletionByPodGC": _LOST,
        "TerminationByKubelet": _EVICTED,
    }
)
_TAINTED: Final = "TaintManagerEviction"
_NOT_READY: Final = "NodeNotReady"
_SCALE_DOWN: Final = "ScaleDown"
_SCALE_DOWN_FAILED: Final = "ScaleDownFailed"
_BY_EVENT: Final[Mapping[str, _DisruptionKind]] = MappingProxyType(
    {
        "Preempted": _PREEMPTED,  # kube-scheduler, preemption
        "Preempting": _PREEMPTED,  # kubelet, preemption: room for a critical Pod
        "Evicted": _EVICTED,  # kubelet, eviction; Karpenter's terminator
        _SCALE_DOWN: _DRAINED,  # cluster-autoscaler, before it tries to evict
        _TAINTED: _DRAINED,  # taint eviction controller
        _NOT_READY: _LOST,  # node lifecycle controller
    }
)
#: Reasons of the events that show a disruption.
DISRUPTION_EVENTS: Final = tuple(_BY_EVENT)
# kubelet, eviction: emptyDirMessageFmt, podEphemeralStorageMessageFmt, containerEphemeralStorageMessageFmt.
_LIMIT_TEXTS: Final = ("exceeds the limit", "exceeds the total limit", "exceeded its local ephemeral storage")


def disruption(pod: PodView) -> Outcome | None:
    """Return the outcome of a Pod that was disrupted; ``None`` where it ended by itself."""
    target = disruption_target(pod)
    kind = _BY_POD_REASON.get(pod.reason or "")
    if kind is not None:
        return _outcome(_specific(kind, pod.message), pod, pod.reason, pod.message)
    # By the last report of the kubelet a container runs.
    unconfirmed = any(container.running is not None for container in pod.container_statuses)
    if target is not None:
        kind = _BY_TARGET.get(target.reason or "", _DRAINED)
        # The taint manager also evicts Pods from a node that is not reachable (a NoExecute taint).
        if unconfirmed and target.reason == "DeletionByTaintManager":
            kind = _LOST
        return _outcome(kind, pod, target.reason, target.message)
    # Pod garbage collector: it sets no condition on the Pods of a node that is out of service.
    return _outcome(_UNCONFIRMED, pod, None, None) if unconfirmed and pod.phase == "Failed" else None


def is_disrupted(pod: PodView) -> bool:
    """Whether the cluster ends the Pod, or has ended it, for reasons of its own."""
    return (pod.reason or "") in _BY_POD_REASON or disruption_target(pod) is not None


def disruption_from_events(events: Sequence[EventView]) -> Outcome | None:
    """Return the outcome of a deleted Pod, from the events about it, the oldest first.

    ``None`` where they show no disruption. ``NodeNotReady`` explains the end only if no event but
    the eviction for that taint came after it: otherwise the Pod may have gone on.
    """
    candidates: list[EventView] = []
    for event in events:
        if event.reason == _SCALE_DOWN_FAILED:  # cluster-autoscaler: the eviction failed
            candidates = [other for other in candidates if other.reason != _SCALE_DOWN]
        elif (event.reason or "") in _BY_EVENT and not (
            # Taint eviction controller: the Pod tolerates the taint after all, or the taint is gone.
            event.reason == _TAINTED and (event.message or "").startswith("Cancelling")
        ):
            candidates.append(event)
    while candidates:
        event = candidates.pop()
        if event.reason == _TAINTED and candidates and candidates[-1].reason == _NOT_READY:
            event = candidates[-1]
        elif event.reason == _NOT_READY and event is not events[-1]:
            continue
        kind = _specific(_BY_EVENT[event.reason or ""], event.message)
        return _outcome(kind, None, event.reason, event.message)
    return None


def _specific(kind: _DisruptionKind, message: str | None) -> _DisruptionKind:
    over_limit = kind is _EVICTED and any(text in (message or "") for text in _LIMIT_TEXTS)
    return _OVER_LIMIT if over_limit else kind


def lost_pod_problems(pod: PodView, policy: ObservationPolicy) -> Iterator[PodProblem]:
    """Yield the problem of a Pod whose node does not confirm its end, or reports nothing at all."""
    if pod.has_ended:
        return
    target = disruption_target(pod)
    grace = float(pod.metadata.deletion_grace_period_seconds or 0) + policy.lost_timeout
    quote = cluster_message(pod.reason, pod.message)
    if pod.metadata.deletion_timestamp:
        target_words = quote_cluster(target.reason, target.message) if target else ""
        what = (
            f"the Pod was asked to end {grace:g} s ago and its node{_on(pod)} does not confirm that it has"
            f"{target_words}"
        )
    elif pod.phase == "Unknown":
        what = f"the node{_on(pod)} has reported nothing of the Pod for {grace:g} s"
    else:
        return
    finding = Finding(what, quote, f"see whether the node is ready, and {_RETRY}")
    yield PodProblem(f"{pod.identity}/lost", grace, FailureReason.NODE_LOST, finding)


def _outcome(kind: _DisruptionKind, pod: PodView | None, reason: str | None, message: str | None) -> Outcome:
    on = _on(pod) if pod is not None else ""
    what = kind.what.format(node=f" from node{on}" if on else "", on=on)
    return failed(kind.reason, Finding(what, cluster_message(reason, message), kind.advice).sentence())


def _on(pod: PodView) -> str:
    return f" {pod.node_name}" if pod.node_name else ""


def disruption_target(pod: PodView) -> Condition | None:
    """The condition that announces a disruption; a disruption that did not come about sets it to False."""
    target = pod.condition("DisruptionTarget")
    return target if target is not None and target.status == "True" else None
