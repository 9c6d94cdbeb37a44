"""Pods without a node: how long they may wait, and what the autoscaler's word changes."""

from typing import Any

import pytest

from oz_agent_worker.protocol.outcome import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts, ScaleUp
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy, Trouble
from oz_agent_worker.worker.backends.kubernetes.status.scheduling import scheduling_troubles
from tests.unit.worker.backends.kubernetes.samples import pod

POLICY = ObservationPolicy(unschedulable_timeout=30.0, scale_up_timeout=600.0, stuck_timeout=900.0)
COMING = EventFacts(about="uid-1", scale_up=ScaleUp.COMING, autoscaler=" (TriggeredScaleUp: workers 1->2)")
REFUSED = EventFacts(about="uid-1", scale_up=ScaleUp.REFUSED, autoscaler=" (NotTriggerScaleUp: too big)")
UNDECIDED = EventFacts(about="uid-1", autoscaler=" (FailedScheduling: no instance type fits)")


def waits(reason: str = "Unschedulable", message: str = "0/3 nodes are available:\n 3 few cpu.") -> PodView:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(phase="Pending", spec={}, conditions=[condition])


def only(view: PodView, facts: EventFacts = NOT_READ, **policy: Any) -> Trouble:
    [trouble] = scheduling_troubles(view, ObservationPolicy(**policy) if policy else POLICY, facts)
    assert trouble.outcome.reason is FailureReason.UNSCHEDULABLE
    return trouble


@pytest.mark.parametrize(
    ("facts", "grace", "message"),
    [
        (
            NOT_READ,
            30.0,
            "The Pod found no node within 30 s (0/3 nodes are available: 3 few cpu): add capacity, or raise"
            " backend.kubernetes.unschedulable_timeout",
        ),
        (
            UNDECIDED,
            30.0,
            "The Pod found no node within 30 s (0/3 nodes are available: 3 few cpu), and the autoscaler says"
            " (FailedScheduling: no instance type fits): add capacity, or raise"
            " backend.kubernetes.unschedulable_timeout",
        ),
        (
            COMING,
            600.0,
            "No node came within 600 s (0/3 nodes are available: 3 few cpu) though the autoscaler adds one"
            " (TriggeredScaleUp: workers 1->2): see why the node does not come, or raise"
            " backend.kubernetes.scale_up_timeout",
        ),
        (
            REFUSED,
            0.0,
            "No node fits the Pod (0/3 nodes are available: 3 few cpu) and the autoscaler adds none"
            " (NotTriggerScaleUp: too big): let the Pod's requests, nodeSelector and tolerations fit a node"
            " group, or enlarge the group",
        ),
    ],
    ids=["nothing said", "undecided", "coming", "refused"],
)
def test_a_pod_that_fits_nowhere(facts: EventFacts, grace: float, message: str) -> None:
    trouble = only(waits(), facts)
    assert (trouble.key, trouble.grace, trouble.about) == ("uid-1/unschedulable", grace, "uid-1")
    assert trouble.outcome.message == message


def test_a_node_that_is_coming_never_shortens_the_wait() -> None:
    assert only(waits(), COMING, unschedulable_timeout=900.0, scale_up_timeout=60.0).grace == 900.0


@pytest.mark.parametrize("facts", [NOT_READ, COMING, REFUSED])
def test_without_a_timeout_a_pod_waits_for_ever_whatever_the_autoscaler_says(facts: EventFacts) -> None:
    assert [*scheduling_troubles(waits(), ObservationPolicy(unschedulable_timeout=0.0), facts)] == []


@pytest.mark.parametrize(
    "view",
    [
        waits("SchedulingGated", "gated"),
        pod(phase="Pending", spec={"nodeName": "n"}),
        pod(phase="Pending", spec={}, conditions=[{"type": "PodScheduled", "status": "True"}]),
    ],
    ids=["gated", "bound", "bound a moment ago"],
)
def test_a_pod_that_waits_for_no_node(view: PodView) -> None:
    assert [*scheduling_troubles(view, POLICY)] == []


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (pod(phase="Pending", spec={}), "within 900 s: see whether"),
        (waits("SchedulerError", "bad affinity"), "within 900 s (SchedulerError: bad affinity): see whether"),
    ],
    ids=["no word", "an error"],
)
def test_a_pod_that_no_scheduler_sees_to(view: PodView, words: str) -> None:
    trouble = only(view)
    assert (trouble.key, trouble.grace, trouble.about) == ("uid-1/unscheduled", 900.0, "")
    assert words in trouble.outcome.message
