from typing import Any

import pytest

from oz_agent_worker.backends.kubernetes.inspection.taskstate import State, reason_of, state_of
from oz_agent_worker.backends.kubernetes.judgement.patience import ObservationPolicy
from tests.unit.backends.kubernetes.samples import terminated, waiting
from tests.unit.backends.kubernetes.tasks import LATER, task_job, task_pod

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
def test_a_task_in_two_words(job: Any, pods: list[Any], state: State, reason: str, patience: float) -> None:
    assert state_of(job, pods) is state
    assert reason_of(job, pods, ObservationPolicy(unschedulable_timeout=patience)) == reason
