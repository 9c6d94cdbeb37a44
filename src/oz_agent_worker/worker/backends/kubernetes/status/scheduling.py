"""Pods that no node takes, and what an autoscaler does about it. Pure."""

from collections.abc import Iterator

from oz_agent_worker.protocol.outcome import FailureReason, Outcome, failed
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, PodView

from .events import NOT_READ, EventFacts, ScaleUp
from .messages import said, sentence
from .policy import ObservationPolicy, Trouble

__all__ = ["scheduling_troubles"]


def scheduling_troubles(
    pod: PodView, policy: ObservationPolicy, facts: EventFacts = NOT_READ
) -> Iterator[Trouble]:
    """Yield why the Pod has no node. One behind a scheduling gate is in no trouble.

    An operator with ``unschedulable_timeout`` 0 has Pods wait for room as in a queue.
    """
    if policy.unschedulable_timeout <= 0 or (pod.spec and pod.spec.node_name):
        return
    conditions = (pod.status.conditions if pod.status else None) or ()
    condition = next((c for c in conditions if c.type == "PodScheduled"), None)
    reason = condition.reason if condition is not None else None
    if condition is not None and (condition.status != "False" or reason == "SchedulingGated"):
        return
    if condition is not None and reason == "Unschedulable":  # core/v1, PodReasonUnschedulable
        yield _unschedulable(pod, condition, policy, facts)
    else:
        yield _unnoticed(pod, condition, policy)


def _unschedulable(
    pod: PodView, condition: Condition, policy: ObservationPolicy, facts: EventFacts
) -> Trouble:
    grace = policy.unschedulable_timeout
    scheduler = said(None, condition.message)
    advice = "add capacity, or raise backend.kubernetes.unschedulable_timeout"
    if facts.scale_up is ScaleUp.REFUSED:
        grace = 0.0
        what = f"no node fits the Pod{scheduler} and the autoscaler adds none{facts.autoscaler}"
        advice = "let the Pod's requests, nodeSelector and tolerations fit a node group, or enlarge the group"
    elif facts.scale_up is ScaleUp.COMING:
        grace = max(grace, policy.scale_up_timeout)
        what = f"no node came within {grace:g} s{scheduler} though the autoscaler adds one{facts.autoscaler}"
        advice = "see why the node does not come, or raise backend.kubernetes.scale_up_timeout"
    else:
        what = f"the Pod found no node within {grace:g} s{scheduler}"
        if facts.autoscaler:
            what += f", and the autoscaler says{facts.autoscaler}"
    key = f"{pod.identity}/unschedulable"
    return Trouble(key, grace, _failure(f"{what}: {advice}"), pod.identity, policy.ask_after)


def _unnoticed(pod: PodView, condition: Condition | None, policy: ObservationPolicy) -> Trouble:
    words = said(condition.reason, condition.message) if condition is not None else ""
    what = f"no scheduler found the Pod a node within {policy.stuck_timeout:g} s{words}"
    advice = "see whether the scheduler runs, and whether pod_template.schedulerName names one that does"
    return Trouble(f"{pod.identity}/unscheduled", policy.stuck_timeout, _failure(f"{what}: {advice}"))


def _failure(text: str) -> Outcome:
    return failed(FailureReason.UNSCHEDULABLE, sentence(text))
