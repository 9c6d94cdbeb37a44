"""What the events of Pods that are gone tell of the end of their Job."""

import pytest

from oz_agent_worker.protocol.outcome import FailureReason, failed
from oz_agent_worker.worker.backends.kubernetes.objects import Condition, EventView
from oz_agent_worker.worker.backends.kubernetes.status.gone_pods import (
    events_of_last_pod,
    explain_end,
    gone_pods,
    is_unexplained,
    pods_of_job,
)
from tests.unit.worker.backends.kubernetes.samples import event, pod, terminated

LIMIT = Condition(type="Failed", status="True", reason="BackoffLimitExceeded", message="it failed")
DEADLINE = Condition(type="Failed", status="True", reason="DeadlineExceeded", message="too long")


def created(name: str, at: int = 0) -> EventView:
    about = {"kind": "Job", "name": "j"}
    return event("SuccessfulCreate", f"Created pod: {name}", at=at, kind="Normal", involvedObject=about)


def told(reason: str, message: str = "why", at: int = 10, *, of: str = "j-a") -> EventView:
    return event(reason, message, at=at, kind="Normal", involvedObject={"kind": "Pod", "name": of})


NOT_READY = told("NodeNotReady", "Node is not ready", 20)
TAINTED = told("TaintManagerEviction", "Marking for deletion Pod ns/j-a", 30)
REVOKED = told("TaintManagerEviction", "Cancelling deletion of Pod ns/j-a", 40)
KILLING = told("Killing", "Stopping container task", 50)

FAILED_TRY = told("ScaleDownFailed", "failed to delete pod for ScaleDown", 20)

ROWS = {
    "preempted": ([told("Preempted")], FailureReason.POD_PREEMPTED),
    "preempted by the kubelet": ([told("Preempting")], FailureReason.POD_PREEMPTED),
    "evicted by the kubelet": ([told("Evicted", "The node was low on resource")], FailureReason.EVICTED),
    "node removed by the autoscaler": ([told("ScaleDown"), KILLING], FailureReason.EVICTED),
    "an eviction that did not come about": (
        [told("ScaleDown"), FAILED_TRY, KILLING],
        FailureReason.POD_MISSING,
    ),
    "evicted at the second try": (
        [told("ScaleDown"), FAILED_TRY, told("ScaleDown", at=30), KILLING],
        FailureReason.EVICTED,
    ),
    "preempted after a try to evict": (
        [told("Preempted"), told("ScaleDown", at=15), FAILED_TRY],
        FailureReason.POD_PREEMPTED,
    ),
    "tainted": ([TAINTED, KILLING], FailureReason.EVICTED),
    "tainted, then not": ([TAINTED, REVOKED, KILLING], FailureReason.EVICTED),
    "only told that it may stay": ([REVOKED, KILLING], FailureReason.POD_MISSING),
    "silent node": ([NOT_READY], FailureReason.NODE_LOST),
    "silent node, driven away": ([NOT_READY, TAINTED], FailureReason.NODE_LOST),
    "a node that came back": ([NOT_READY, KILLING], FailureReason.POD_MISSING),
    "preempted after its node came back": (
        [NOT_READY, told("Preempted", at=40), KILLING],
        FailureReason.POD_PREEMPTED,
    ),
    "preempted before its node was silent": ([told("Preempted"), NOT_READY], FailureReason.NODE_LOST),
    "deleted": ([KILLING], FailureReason.POD_MISSING),
    "nothing": ([], FailureReason.POD_MISSING),
}


@pytest.mark.parametrize(("events", "reason"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("job_told", [True, False])
def test_the_events_of_a_pod_that_is_gone_speak_for_it(
    events: list[EventView], reason: FailureReason, job_told: bool
) -> None:
    about_job = [created("j-a")] if job_told else []
    outcome = explain_end(LIMIT, (), [*reversed(events), *about_job])
    assert outcome.reason is reason


def test_what_the_cluster_said_is_quoted() -> None:
    outcome = explain_end(LIMIT, (), [told("Preempted", "Preempted by pod p on node n")])
    assert outcome.message.startswith(
        "The Pod was preempted: a Pod of a higher priority took its place (Preempted: Preempted by pod p on"
        " node n): run the task again"
    )
    over = explain_end(LIMIT, (), [told("Evicted", 'Usage of EmptyDir volume "workspace" exceeds the limit')])
    assert "workspace_size_limit" in over.message


def test_the_last_pod_of_a_job_counts() -> None:
    events = [
        created("j-a", 0),
        told("Preempted", at=5),
        created("j-b", 20),
        told("Evicted", of="j-b", at=30),
    ]
    assert pods_of_job(reversed(events)) == ["j-a", "j-b"]
    assert events_of_last_pod(reversed(events)) == [events[3]]
    assert events_of_last_pod(events[:3]) == []
    assert explain_end(LIMIT, (), events).reason is FailureReason.EVICTED
    assert explain_end(LIMIT, (), events[:3]).reason is FailureReason.POD_MISSING


def test_where_no_event_names_the_last_pod_it_is_the_one_that_was_heard_of_last() -> None:
    first = [told("Scheduled", at=0), told("Preempted", at=5), told("Killing", at=40)]
    second = [told("Scheduled", at=20, of="j-b"), told("Started", at=30, of="j-b")]
    assert events_of_last_pod([*second, *first]) == second
    assert events_of_last_pod(first) == first
    assert events_of_last_pod([]) == []


def test_of_the_pods_that_are_gone_the_newest_are_looked_for() -> None:
    events = [created(f"j-{number:02}", number) for number in range(14)]
    assert gone_pods(events, ["j-13", "j-00"]) == [f"j-{number:02}" for number in range(3, 13)]


def test_a_pod_that_is_there_knows_better() -> None:
    there = pod(phase="Failed", containerStatuses=[terminated("task", 3)])
    assert explain_end(LIMIT, (there,), [told("Preempted")]).reason is FailureReason.CONTAINER_EXIT


def test_a_job_that_knows_why_is_asked_first() -> None:
    assert explain_end(DEADLINE, (), [told("Preempted")]).reason is FailureReason.ACTIVE_DEADLINE
    assert not is_unexplained(failed(FailureReason.ACTIVE_DEADLINE, "x"), ())
