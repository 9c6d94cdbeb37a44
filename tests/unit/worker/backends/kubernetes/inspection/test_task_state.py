from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import (
    State,
    is_starting,
    lost_its_pods,
    outcome_of,
    reason_of,
    state_of,
)
from oz_agent_worker.worker.backends.kubernetes.status.job_state import job_state
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import running, terminated, waiting
from tests.unit.worker.backends.kubernetes.tasks import LATER, event, task_job, task_pod

FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
PULLS = task_pod("Pending", containerStatuses=[waiting("task", "ErrImagePull", "i/o timeout")])
ROWS: dict[str, tuple[Any, list[Any], State, str]] = {
    "complete": (task_job({"type": "Complete", "status": "True"}), [], State.SUCCEEDED, ""),
    "failed": (
        task_job(FAILED),
        [task_pod("Failed", containerStatuses=[terminated("task", 1)])],
        State.FAILED,
        "container_exit",
    ),
    "failed and deleted": (task_job(FAILED, deletionTimestamp=LATER), [], State.FAILED, "pod_missing"),
    "deleted": (task_job(deletionTimestamp=LATER), [PULLS], State.ENDING, ""),
    "no Pod": (task_job(status={"active": None}), [], State.PENDING, "pod_missing"),
    "suspended": (task_job({"type": "Suspended", "status": "True"}), [], State.PENDING, "suspended"),
    "no node": (
        task_job(),
        [task_pod("Pending", node=None, conditions=[NO_NODE])],
        State.PENDING,
        "unschedulable",
    ),
    "not looked at": (task_job(), [task_pod("Pending", node=None)], State.PENDING, ""),
    "starts": (
        task_job(),
        [task_pod("Pending", containerStatuses=[waiting("task", "ContainerCreating")])],
        State.PENDING,
        "",
    ),
    "pulls": (task_job(), [PULLS], State.PENDING, "image_pull"),
    "runs": (task_job(), [task_pod("Running")], State.RUNNING, ""),
    "between two Pods": (
        task_job(),
        [task_pod("Failed"), task_pod("Pending", metadata={"creationTimestamp": LATER, "uid": "2"})],
        State.PENDING,
        "",
    ),
}


@pytest.mark.parametrize(("job", "pods", "state", "reason"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("patience", [0.0, 30.0])
def test_a_task_as_state_and_reason(
    job: Any, pods: list[Any], state: State, reason: str, patience: float
) -> None:
    assert state_of(job, pods, ObservationPolicy(unschedulable_timeout=patience)) is state
    assert reason_of(job, pods, ObservationPolicy(unschedulable_timeout=patience)) == reason


CREATING = task_pod("Pending", containerStatuses=[waiting("task", "ContainerCreating")])
NO_SANDBOX = event("FailedCreatePodSandBox", "no free IP in the range")
EVENT_CASES: dict[str, tuple[Any, list[Any], list[Any], str]] = {
    "no sandbox": (task_job(), [CREATING], [NO_SANDBOX], "container_create"),
    "no sandbox, then one": (
        task_job(),
        [CREATING],
        [NO_SANDBOX, event("Pulling", "Pulling image", kind="Normal")],
        "",
    ),
    "no sandbox of another Pod": (task_job(), [CREATING], [event("Failed", "x", about="uid-other")], ""),
    "no volume": (task_job(), [CREATING], [event("FailedMount", "no Secret")], "volume_mount"),
    "preempted, its Pod gone": (
        task_job(FAILED),
        [],
        [event("Preempted", "by pod p", kind="Normal")],
        "pod_preempted",
    ),
    "runs, and was warned of": (task_job(), [task_pod("Running")], [event("Unhealthy", "x")], ""),
}


@pytest.mark.parametrize(("job", "pods", "events", "reason"), EVENT_CASES.values(), ids=EVENT_CASES)
def test_failures_that_only_events_explain(job: Any, pods: list[Any], events: list[Any], reason: str) -> None:
    assert reason_of(job, pods, ObservationPolicy(), events) == reason


def test_of_which_tasks_events_are_worth_reading() -> None:
    policy = ObservationPolicy()
    assert [is_starting(pod, policy) for pod in (CREATING, PULLS, task_pod("Running"))] == [
        True,
        False,
        False,
    ]
    assert lost_its_pods(task_job(FAILED), [])
    assert not lost_its_pods(task_job(FAILED), [task_pod("Failed")])
    assert not lost_its_pods(task_job(), [])


def test_a_second_pod_within_its_grace_ends_no_task() -> None:
    """K9, K10: the first has ended, and the second is about to be taken away."""
    first = task_pod(
        "Running",
        containerStatuses=[terminated("task", 137, reason="x", finishedAt=LATER), running("proxy")],
        metadata={"uid": "uid-0", "name": "first"},
    )
    second = task_pod("Pending", metadata={"creationTimestamp": LATER})
    state = job_state(task_job(), (first, second))
    for grace, ends in ((0.5, False), (0.0, True)):
        outcome = outcome_of(state, ObservationPolicy(surplus_grace=grace))
        assert outcome is not None
        assert (outcome.reason is FailureReason.POD_REPLACED) == ends
