"""How a task ends where its Job does not say so, and a Pod too many."""

from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.status.ending import TaskEnd, end_of_task, surplus_pod
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Evaluation, Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.job_state import TaskStage, job_state
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import (
    event,
    failed_job,
    job,
    pod,
    running,
    terminated,
    waiting,
)

POLICY = ObservationPolicy(
    teardown_grace=40.0, announced_grace=20.0, controller_timeout=90.0, surplus_grace=10.0
)
MET = {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}
TARGET = {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"}
COMPLETE = {"type": "Complete", "status": "True"}


def beside(code: int, *others: dict[str, Any], phase: str = "Running", **more: Any) -> PodView:
    """A Pod whose container ``task`` ended so, with others."""
    return pod(phase=phase, containerStatuses=[*others, terminated("task", code)], **more)


def end_of(of: JobView, *pods: PodView) -> TaskEnd | None:
    return end_of_task(job_state(of, pods), POLICY)


@pytest.mark.parametrize(
    ("of", "pods", "result", "exit_code", "grace", "key"),
    [
        # K10: the end of the container ``task`` is the task's, after a grace for what is beside it.
        (job(), [beside(0, running("proxy"))], "succeeded", None, 40.0, "uid-1/task"),
        (job(), [beside(3, running("proxy"))], "failed", 3, 40.0, "uid-1/task"),
        (job(), [beside(0)], "succeeded", None, 40.0, "uid-1/task"),
        (
            job(),
            [beside(0, running("proxy"), spec={"terminationGracePeriodSeconds": 300})],
            "succeeded",
            None,
            300.0,
            "uid-1/task",
        ),
        (
            job(),
            [beside(0, running("proxy"), spec={"terminationGracePeriodSeconds": 0})],
            "succeeded",
            None,
            40.0,
            "uid-1/task",
        ),
        # K10: whatever the others end with, and also where the Job says so before.
        (failed_job(), [beside(0, terminated("proxy", 143), phase="Failed")], "succeeded", None, 0.0, ""),
        (failed_job(), [beside(0, terminated("proxy", 137, reason="OOMKilled"))], "succeeded", None, 0.0, ""),
        (failed_job(), [beside(5, terminated("proxy", 137, reason="OOMKilled"))], "failed", 5, 0.0, ""),
        (
            job(),
            [beside(0, terminated("proxy", 143), phase="Failed")],
            "succeeded",
            None,
            90.0,
            "uid-1/ended",
        ),
        (
            job(retries=3),
            [beside(3, terminated("proxy", 143), phase="Failed")],
            "failed",
            3,
            90.0,
            "uid-1/ended",
        ),
        # K6: announced and never declared, with nothing that runs.
        (job(MET), [pod(phase="Succeeded")], "succeeded", None, 20.0, "job-1/announced"),
        (job(MET), [], "succeeded", None, 20.0, "job-1/announced"),
        (job(TARGET), [beside(3, phase="Failed")], "failed", 3, 20.0, "job-1/announced"),
        (job(TARGET), [], "failed", None, 20.0, "job-1/announced"),
        # K6: the Job controller does not run.
        (job(), [pod(phase="Succeeded")], "succeeded", None, 90.0, "uid-1/ended"),
        (job(), [beside(3, phase="Failed")], "failed", 3, 90.0, "uid-1/ended"),
        (job(), [pod(phase="Failed", reason="Evicted")], "failed", None, 90.0, "uid-1/ended"),
        (job(), [pod(phase="Failed", reason="OutOfcpu")], "failed", None, 90.0, "uid-1/ended"),
        (job(COMPLETE), [], "succeeded", None, 0.0, ""),
        (failed_job(), [], "failed", None, 0.0, ""),
    ],
)
def test_how_a_task_ends(
    of: JobView, pods: list[PodView], result: str, exit_code: int | None, grace: float, key: str
) -> None:
    end = end_of(of, *pods)
    assert end is not None
    assert (end.outcome.result.value, end.outcome.exit_code) == (result, exit_code)
    assert (end.grace, end.key) == (grace, key)
    assert (end.finding is None) == (key == "")
    before = evaluate(Observation(of, tuple(pods)), {key: 1000.0}, 999.9 + grace, POLICY)
    after = evaluate(Observation(of, tuple(pods)), {key: 1000.0}, 1000.0 + grace, POLICY)
    assert after.outcome == end.outcome
    assert (after.recheck_at, after.end) == (None, end)
    if grace:
        keys = frozenset({key})
        assert before == Evaluation(None, 1000.0 + grace, TaskStage.ENDING, keys, end=end)


@pytest.mark.parametrize(
    ("of", "pods"),
    [
        (job(), []),
        (job(), [pod(phase="Running", containerStatuses=[running("task")])]),
        # K10: a container beside the task that fails does not decide while the task runs.
        (job(), [pod(phase="Running", containerStatuses=[running("task"), terminated("proxy", 1)])]),
        (job(TARGET), [pod(phase="Running", containerStatuses=[running("task")])]),
        (job(MET), [pod(phase="Running", containerStatuses=[running("task")])]),
        # The Job controller starts another Pod when it runs again.
        (job(retries=1), [pod(phase="Failed", reason="Evicted")]),
        (job(retries=1), [pod(phase="Failed", reason="OutOfcpu")]),
        # An effect of a deletion: the Pod's end decides.
        (job(), [beside(143, running("proxy"), metadata={"deletionTimestamp": "2026-01-01T12:00:00Z"})]),
    ],
)
def test_a_task_that_goes_on_has_no_end(of: JobView, pods: list[PodView]) -> None:
    assert end_of(of, *pods) is None


def test_what_the_job_waits_for_is_said() -> None:
    end = end_of(job(), beside(0, running("proxy"), running("vault")))
    assert end is not None
    assert end.finding is not None
    assert end.finding.statement() == (
        "its container `task` ended with exit code 0; beside it `proxy`, `vault` still run"
    )
    assert "native sidecar" in end.finding.advice
    alone = end_of(job(), beside(3))
    assert alone is not None
    assert alone.finding is not None
    assert alone.finding.statement().endswith("exit code 3; its Pod has not ended yet")
    assert alone.finding.advice == ""
    announced = end_of(job(TARGET), beside(3, phase="Failed"))
    assert announced is not None
    assert announced.finding is not None
    assert "(FailureTarget (BackoffLimitExceeded: limit))" in announced.finding.statement()
    unheard = end_of(job(), pod(phase="Succeeded"))
    assert unheard is not None
    assert unheard.finding is not None
    assert "oz-task-1-abcde has ended (Succeeded), and the Job controller" in unheard.finding.statement()


DELETED = {"deletionTimestamp": "2026-01-01T12:00:30Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("of", "view", "undisturbed"),
    [
        (job(), beside(0, running("proxy")), True),
        (job(MET), pod(phase="Succeeded"), True),
        (job(), pod(phase="Succeeded"), False),
        (job(), beside(0, phase="Succeeded"), True),
        (job(), beside(0, phase="Succeeded", metadata=DELETED), False),
    ],
)
def test_an_end_that_a_deletion_may_have_caused(of: JobView, view: PodView, undisturbed: bool) -> None:
    end = end_of(of, view)
    assert end is not None
    assert end.undisturbed is undisturbed


def test_an_exit_code_of_0_after_a_deletion_is_no_success() -> None:
    # The agent was asked to end, and may have ended before it was done.
    assert end_of(job(), beside(0, running("proxy"), metadata=DELETED)) is None
    end = end_of(failed_job(), beside(0, phase="Succeeded", metadata=DELETED))
    assert end is not None
    assert end.outcome.reason is FailureReason.POD_MISSING


def test_events_explain_the_end_of_a_job_without_a_pod() -> None:
    preempted = event("Preempted", "by pod p", kind="Normal", involvedObject={"kind": "Pod", "name": "j-a"})
    for of in (failed_job(), job(TARGET)):
        end = end_of_task(job_state(of, ()), POLICY, [preempted])
        assert end is not None
        assert end.outcome.reason is FailureReason.POD_PREEMPTED


# A Pod too many


def numbered(number: int, phase: str, *containers: dict[str, Any], **metadata: Any) -> PodView:
    created = f"2026-01-01T00:00:{number:02}Z"
    metadata = {"name": f"p{number}", "uid": f"uid-{number}", "creationTimestamp": created, **metadata}
    return pod(phase=phase, metadata=metadata, containerStatuses=list(containers))


def runs(number: int, **metadata: Any) -> PodView:
    return numbered(number, "Running", running("task"), **metadata)


def waits(number: int, **metadata: Any) -> PodView:
    return numbered(number, "Pending", waiting("task", "ContainerCreating"), **metadata)


SUCCEEDED = numbered(2, "Succeeded", terminated("task", 0))
FIRST_FAILED = numbered(1, "Failed", terminated("task", 3))
REFUSED = numbered(1, "Failed")
# As the kubelet reports a Pod that was deleted before it started.
TAKEN_AWAY = numbered(2, "Failed", terminated("task", 137, reason="ContainerStatusUnknown"))


@pytest.mark.parametrize(
    ("of", "pods", "replaced", "grace"),
    [
        # K9: the first Pod is gone, by force and without its finalizer, and the Job has another.
        (job(), [waits(2)], 1, 0.0),
        (job(), [runs(2)], 1, 0.0),
        (job(), [SUCCEEDED], 1, 0.0),
        (job(COMPLETE), [SUCCEEDED], 1, 0.0),
        (failed_job(), [FIRST_FAILED], 1, 0.0),
        # K9: both are there.
        (job(), [FIRST_FAILED, waits(2)], 0, 0.0),
        (job(), [FIRST_FAILED, runs(2)], 0, 0.0),
        (job(COMPLETE), [FIRST_FAILED, SUCCEEDED], 0, 0.0),
        (job(), [runs(1), runs(2)], 0, 0.0),
        (job(), [runs(1, deletionTimestamp="2026-01-01T00:01:00Z"), waits(2)], 0, 0.0),
        # The answer to the first creation was lost: the Job controller takes one away.
        (job(), [runs(1), waits(2)], 0, 10.0),
        (job(), [waits(1), waits(2)], 0, None),
        (job(), [runs(1), waits(2, deletionTimestamp="2026-01-01T00:01:00Z")], 0, None),
        (job(COMPLETE), [SUCCEEDED, waits(3)], 0, None),
        (job(), [runs(1), TAKEN_AWAY], 0, None),
        (job(), [runs(1)], 0, None),
        (job(), [], 1, None),
        (job(), [REFUSED, waits(2)], 0, None),
        # As often as the operator allows.
        (job(retries=1), [runs(2)], 1, None),
        (job(retries=1), [runs(2)], 2, 0.0),
        (job(retries=1), [numbered(1, "Failed", terminated("task", 137, reason="x")), waits(2)], 0, 0.0),
        (job(retries=2), [SUCCEEDED, runs(3)], 0, 0.0),
    ],
)
def test_a_pod_too_many(of: JobView, pods: list[PodView], replaced: int, grace: float | None) -> None:
    for order in (pods, pods[::-1]):
        found = surplus_pod(job_state(of, tuple(order), replaced), POLICY)
        assert (found.grace if found is not None else None) == grace
        seen = evaluate(Observation(of, tuple(order), None, replaced), {}, 1000.0, POLICY)
        if grace == 0.0:
            assert seen.outcome is not None
            assert seen.outcome.reason is FailureReason.POD_REPLACED
            assert seen.end is None
            last = max(order, key=lambda pod: pod.metadata.creation_timestamp or "")
            assert f"another Pod, {last.metadata.name}, though" in seen.outcome.message
        elif grace is not None:
            assert (seen.outcome, seen.recheck_at) == (None, 1010.0)
            late = evaluate(Observation(of, tuple(order)), {"job-1/surplus": 990.0}, 1000.0, POLICY)
            assert late.outcome is not None
            assert late.outcome.reason is FailureReason.POD_REPLACED


def test_a_drained_pod_may_be_followed_by_another_where_that_is_allowed() -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    drained = pod(phase="Failed", conditions=[target], containerStatuses=[terminated("task", 143)])
    assert surplus_pod(job_state(job(retries=1), (drained, runs(2))), POLICY) is None
    found = surplus_pod(job_state(job(retries=1), (drained, runs(2), runs(3))), POLICY)
    assert found is not None
    assert "started 2 times only" in found.finding.what
    one = surplus_pod(job_state(job(), (drained, runs(2))), POLICY)
    assert one is not None
    assert "started once only" in one.finding.what


def test_a_short_grace_of_a_second_pod_is_one_too() -> None:
    short = ObservationPolicy(surplus_grace=0.5)
    seen = evaluate(Observation(job(), (runs(1), waits(2))), {}, 1000.0, short)
    assert (seen.outcome, seen.recheck_at) == (None, 1000.5)


def test_two_pods_that_are_both_gone_are_one_too_many() -> None:
    found = surplus_pod(job_state(job(), (), 2), POLICY)
    assert found is not None
    assert found.finding.what == (
        "the Job controller made another Pod though the task may be started once only"
    )


def test_a_job_without_a_spec_allows_one_start() -> None:
    bare = job_state(JobView(), (runs(2),), 1)
    assert bare.retries == 0
    assert end_of_task(bare, POLICY) is None
    assert TaskResult.FAILED is (surplus_pod(bare, POLICY) or pytest.fail("none")).outcome.result
