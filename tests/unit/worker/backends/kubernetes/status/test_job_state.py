"""What a cluster says of a Job: the stage of its task, in one place."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.objects import ObjectMeta, PodView
from oz_agent_worker.worker.backends.kubernetes.status.job_state import (
    TaskStage,
    end_condition,
    job_order,
    job_state,
)
from tests.unit.worker.backends.kubernetes.samples import job, pod, running, terminated, waiting

NOON = "2026-01-01T12:00:00Z"


def condition(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": "True", **more}


RUNS = pod(phase="Running", containerStatuses=[running("task")])
GOES_ON = pod(phase="Running", containerStatuses=[terminated("task", 0), running("proxy")])
KILLED = pod(
    phase="Running",
    metadata={"deletionTimestamp": NOON},
    containerStatuses=[terminated("task", 143), running("proxy")],
)
EVICTED = pod(phase="Failed", reason="Evicted")
ENDS = pod(phase="Failed", containerStatuses=[terminated("task", 3)])


@pytest.mark.parametrize(
    ("conditions", "pods", "retries", "stage"),
    [
        ([], [], 0, TaskStage.PENDING),
        ([], [pod()], 0, TaskStage.PENDING),
        ([], [pod(phase="Pending")], 0, TaskStage.PENDING),
        ([], [pod(phase="Running")], 0, TaskStage.RUNNING),
        ([], [pod(phase="Unknown")], 0, TaskStage.RUNNING),
        ([], [RUNS], 0, TaskStage.RUNNING),
        (
            [],
            [pod(phase="Running", containerStatuses=[waiting("task", "x"), running("proxy")])],
            0,
            TaskStage.PENDING,
        ),
        ([condition("FailureTarget")], [RUNS], 0, TaskStage.RUNNING),
        # K10
        ([], [GOES_ON], 0, TaskStage.ENDING),
        ([], [KILLED], 0, TaskStage.ENDING),
        # K6
        ([condition("SuccessCriteriaMet")], [pod(phase="Succeeded")], 0, TaskStage.ENDING),
        ([condition("FailureTarget")], [], 0, TaskStage.ENDING),
        ([], [pod(phase="Succeeded")], 0, TaskStage.ENDING),
        ([], [pod(phase="Succeeded")], 1, TaskStage.ENDING),
        ([], [EVICTED], 0, TaskStage.ENDING),
        ([], [EVICTED], 1, TaskStage.PENDING),
        ([], [ENDS], 1, TaskStage.ENDING),
        ([condition("Complete")], [RUNS], 0, TaskStage.ENDED),
        ([condition("SuccessCriteriaMet"), condition("Complete")], [], 0, TaskStage.ENDED),
        ([condition("Failed")], [], 0, TaskStage.ENDED),
        ([{"type": "Failed", "status": "False"}], [RUNS], 0, TaskStage.RUNNING),
    ],
)
def test_the_stage_of_a_task(
    conditions: list[dict[str, Any]], pods: list[PodView], retries: int, stage: TaskStage
) -> None:
    assert job_state(job(*conditions, retries=retries), tuple(pods)).stage is stage


def test_conditions_count_in_their_order() -> None:
    both = job(condition("SuccessCriteriaMet"), condition("Complete"))
    assert job_state(both, ()).verdict is end_condition(both)
    failing = job(condition("Failed", reason="b"), condition("FailureTarget", reason="a"))
    state = job_state(failing, ())
    assert (state.verdict and state.verdict.reason, state.cause and state.cause.reason) == ("b", "a")
    assert (state.has_succeeded, job_state(both, ()).has_succeeded) == (False, True)
    assert job_state(job(condition("SuccessCriteriaMet")), ()).has_succeeded
    assert not job_state(job(), ()).has_succeeded


@pytest.mark.parametrize(
    ("conditions", "pods", "ended"),
    [
        ([], [RUNS], False),
        ([condition("Complete", lastTransitionTime=NOON)], [RUNS], True),
        ([condition("Complete")], [RUNS], False),
        ([condition("FailureTarget", lastTransitionTime=NOON)], [], True),
        ([condition("FailureTarget", lastTransitionTime=NOON)], [RUNS], False),
        ([], [pod(phase="Running", containerStatuses=[terminated("task", 0, finishedAt=NOON)])], True),
        ([], [GOES_ON], False),
        ([], [], False),
    ],
)
def test_when_a_task_ended(conditions: list[dict[str, Any]], pods: list[PodView], ended: bool) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert job_state(job(*conditions), tuple(pods)).ended_at == (noon if ended else None)


def test_the_containers_beside_the_task_that_run() -> None:
    assert job_state(job(), (GOES_ON,)).neighbours() == ("proxy",)
    assert job_state(job(), (RUNS,)).neighbours() == ()
    assert job_state(job(), ()).neighbours() == ()


def test_no_pod_is_gone_unless_that_is_said() -> None:
    assert job_state(job(), ()).replaced == 0
    assert job_state(job(), (), 2).replaced == 2


def test_pods_are_in_the_order_of_their_creation() -> None:
    old, new = (pod(metadata={"uid": uid, "creationTimestamp": NOON[:-2] + uid + "Z"}) for uid in "12")
    for pods in ((old, new), (new, old)):
        assert job_state(job(), pods).pods == (old, new)
        assert job_state(job(), pods).last is new


def test_jobs_of_one_task_are_in_the_order_of_their_creation_and_then_of_their_ends() -> None:
    """K13: times are whole seconds."""
    goes_on = job()
    first, second = (job(condition("Failed", lastTransitionTime=f"{NOON[:-2]}{n}Z")) for n in (1, 2))
    timeless = job(condition("Complete"))
    assert job_order(first) < job_order(second) < job_order(goes_on) == job_order(timeless)
    assert job_order(
        msgspec.structs.replace(first, metadata=ObjectMeta(creation_timestamp=NOON))
    ) > job_order(goes_on)
