"""Pods that the cluster ended or lost, row by row."""

from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.disruptions import disruption, lost_pod_problems
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import pod, running, terminated

POLICY = ObservationPolicy(lost_timeout=300.0)
DELETED = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}


def target(reason: str, message: str = "the cluster's words", status: str = "True") -> dict[str, Any]:
    return {"type": "DisruptionTarget", "status": status, "reason": reason, "message": message}


def ended(**status: Any) -> PodView:
    return pod(phase="Failed", containerStatuses=[terminated("task", 137)], **status)


def cut_off(**status: Any) -> PodView:
    """A Pod whose containers' end never reached the API server."""
    return pod(phase="Failed", containerStatuses=[running("task")], metadata=DELETED, **status)


@pytest.mark.parametrize(
    ("view", "reason", "message_part"),
    [
        (ended(reason="Evicted", message="low on memory"), FailureReason.EVICTED, "Evicted: low on memory"),
        (
            ended(reason="Evicted", conditions=[target("TerminationByKubelet")]),
            FailureReason.EVICTED,
            "was evicted from node node-1 (Evicted)",
        ),
        (ended(conditions=[target("TerminationByKubelet")]), FailureReason.EVICTED, "TerminationByKubelet"),
        (ended(conditions=[target("EvictionByEvictionAPI")]), FailureReason.EVICTED, "the cluster's words"),
        (ended(conditions=[target("DeletionByTaintManager")]), FailureReason.EVICTED, "was evicted"),
        (ended(conditions=[target("SomethingNew")]), FailureReason.EVICTED, "SomethingNew"),
        (
            ended(conditions=[target("PreemptionByScheduler")]),
            FailureReason.POD_PREEMPTED,
            "was preempted from node node-1: a Pod of a higher priority took its place",
        ),
        (
            ended(reason="Preempting", conditions=[target("TerminationByKubelet")]),
            FailureReason.POD_PREEMPTED,
            "(Preempting)",
        ),
        (ended(reason="Terminated"), FailureReason.NODE_LOST, "its node node-1 shut down (Terminated)"),
        (ended(reason="Shutdown"), FailureReason.NODE_LOST, "shut down"),
        (ended(reason="NodeShutdown"), FailureReason.NODE_LOST, "shut down"),
        (ended(reason="NodeLost"), FailureReason.NODE_LOST, "lost with its node node-1"),
        (cut_off(conditions=[target("DeletionByPodGC")]), FailureReason.NODE_LOST, "lost with its node"),
        (
            cut_off(conditions=[target("DeletionByTaintManager")]),
            FailureReason.NODE_LOST,
            "lost with its node",
        ),
        (cut_off(), FailureReason.NODE_LOST, "never confirmed"),
    ],
)
def test_a_pod_that_did_not_end_by_itself(view: PodView, reason: FailureReason, message_part: str) -> None:
    outcome = disruption(view)
    assert outcome is not None
    assert outcome.reason is reason
    assert message_part in outcome.message
    assert "retry_on_disruption" in outcome.message
    assert outcome.exit_code is None


# The kubelet's words where a Pod used more than its own limit: another attempt ends the same way.
@pytest.mark.parametrize(
    "message",
    [
        'Usage of EmptyDir volume "workspace" exceeds the limit "1Gi". ',
        "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. ",
        'Container task exceeded its local ephemeral storage limit "2Gi". ',
    ],
)
def test_a_pod_over_its_own_limit_names_the_limit(message: str) -> None:
    outcome = disruption(ended(reason="Evicted", message=message))
    assert outcome is not None
    assert outcome.reason is FailureReason.EVICTED
    assert "workspace_size_limit" in outcome.message
    assert "run the task again" not in outcome.message


@pytest.mark.parametrize(
    "view",
    [
        ended(),
        ended(conditions=[target("PreemptionByScheduler", status="False")]),
        ended(reason="OutOfcpu"),
        ended(reason="DeadlineExceeded"),
        pod(phase="Running", containerStatuses=[running("task")]),
        PodView(),
    ],
    ids=["by itself", "spared", "not admitted", "deadline", "running", "nothing known"],
)
def test_a_pod_that_was_not_disrupted(view: PodView) -> None:
    assert disruption(view) is None


def test_a_pod_whose_node_does_not_confirm_its_end() -> None:
    [problem] = lost_pod_problems(
        pod(phase="Running", metadata=DELETED, conditions=[target("DeletionByTaintManager")]), POLICY
    )
    assert (problem.key, problem.grace, problem.about) == ("uid-1/lost", 330.0, "")
    assert problem.outcome.reason is FailureReason.NODE_LOST
    assert "node-1 does not confirm that it has (DeletionByTaintManager" in problem.outcome.message


def test_a_pod_whose_node_reports_nothing() -> None:
    [problem] = lost_pod_problems(pod(phase="Unknown", reason="NodeLost", message="unresponsive"), POLICY)
    assert (problem.key, problem.grace) == ("uid-1/lost", 300.0)
    assert "has reported nothing of the Pod for 300 s (NodeLost: unresponsive)" in problem.outcome.message


@pytest.mark.parametrize(
    "view", [pod(phase="Running"), pod(phase="Pending"), pod(phase="Failed", metadata=DELETED), PodView()]
)
def test_a_pod_that_is_not_lost(view: PodView) -> None:
    assert [*lost_pod_problems(view, POLICY)] == []
