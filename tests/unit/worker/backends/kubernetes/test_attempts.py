"""A Job whose Pod was disrupted and started again: the outcome is the last Pod's."""

from typing import Any

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Evaluation, Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .samples import failed_job, job, pod, running, terminated, waiting

POLICY = ObservationPolicy(unschedulable_timeout=30.0)
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
LIMIT = failed_job("BackoffLimitExceeded", "Job has reached the specified backoff limit", retries=1)
POLICY_SAYS_NO = failed_job(
    "PodFailurePolicy", "Container task for pod a/b failed with exit code 1", retries=1
)
TARGET = job({"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy"}, retries=1)
GOES_ON = job(retries=1)
COMPLETE = job({"type": "Complete", "status": "True"}, retries=1)


def attempt(number: int, **status: Any) -> PodView:
    """The Pod of an attempt."""
    started = f"2026-01-01T00:00:{10 * number:02}Z"
    return pod(metadata={"uid": f"uid-{number}", "creationTimestamp": started}, **status)


DRAINED = attempt(1, phase="Failed", conditions=[DISRUPTED], containerStatuses=[terminated("task", 143)])
EVICTED = attempt(1, phase="Failed", reason="Evicted", containerStatuses=[terminated("task", 137)])


def evaluated(job: JobView, *pods: PodView) -> Evaluation:
    return evaluate(Observation(job, pods), {}, 1000.0, POLICY)


@pytest.mark.parametrize("before", [DRAINED, EVICTED])
@pytest.mark.parametrize(
    ("second", "stage"),
    [
        ((), "pending"),
        ((attempt(2, phase="Pending"),), "pending"),
        ((attempt(2, phase="Running", containerStatuses=[running("task")]),), "running"),
    ],
    ids=["backing off", "pending", "running"],
)
def test_while_the_job_goes_on_no_attempt_before_fails_it(
    before: PodView, second: tuple[PodView, ...], stage: str
) -> None:
    seen = evaluated(GOES_ON, before, *second)
    assert (seen.outcome, seen.stage) == (None, stage)


def test_a_job_that_is_about_to_fail_goes_on_until_its_pods_have_ended() -> None:
    ending = attempt(2, phase="Running", containerStatuses=[running("task")])
    assert evaluated(TARGET, EVICTED, ending).outcome is None


@pytest.mark.parametrize(
    ("condition", "last", "reason", "exit_code"),
    [
        (POLICY_SAYS_NO, {"containerStatuses": [terminated("task", 3)]}, FailureReason.CONTAINER_EXIT, 3),
        (
            POLICY_SAYS_NO,
            {"containerStatuses": [terminated("task", 137, reason="OOMKilled")]},
            FailureReason.CONTAINER_OOM,
            137,
        ),
        (
            POLICY_SAYS_NO,
            {
                "initContainerStatuses": [terminated("setup", 1)],
                "containerStatuses": [waiting("task", "PodInitializing")],
            },
            FailureReason.SETUP_COMMAND,
            1,
        ),
        (LIMIT, {"reason": "Evicted"}, FailureReason.EVICTED, None),
    ],
)
@pytest.mark.parametrize("before", [DRAINED, EVICTED])
def test_the_last_attempt_decides(
    condition: JobView, last: dict[str, Any], reason: FailureReason, exit_code: int | None, before: PodView
) -> None:
    second = attempt(2, phase="Failed", **last)
    for pods in ((before, second), (second, before)):
        outcome = evaluated(condition, *pods).outcome
        assert outcome is not None
        assert (outcome.reason, outcome.exit_code) == (reason, exit_code)


def test_a_task_that_succeeds_after_a_disruption_succeeds() -> None:
    second = attempt(2, phase="Succeeded", containerStatuses=[terminated("task", 0)])
    outcome = evaluated(COMPLETE, EVICTED, second).outcome
    assert outcome is not None
    assert outcome.result is TaskResult.SUCCEEDED


def test_an_attempt_that_cannot_start_is_in_problem_whatever_became_of_the_one_before() -> None:
    second = attempt(2, phase="Pending", containerStatuses=[waiting("task", "InvalidImageName")])
    outcome = evaluated(GOES_ON, EVICTED, second).outcome
    assert outcome is not None
    assert outcome.reason is FailureReason.INVALID_IMAGE


def test_the_last_pod_is_the_newest() -> None:
    second = attempt(2)
    assert last_pod([second, EVICTED]) is second
    assert last_pod([PodView(), EVICTED]) is EVICTED
    # Of two of one second the one that has not ended is the newer one, in whatever order they come.
    beside = attempt(1, phase="Pending")
    assert last_pod([EVICTED, beside]) is last_pod([beside, EVICTED]) is beside


def test_a_second_pod_that_has_not_started_counts_less_than_the_first_that_runs() -> None:
    first = attempt(1, phase="Running", containerStatuses=[running("task")])
    assert last_pod([first, attempt(2, phase="Pending")]) is first
    assert last_pod([]) is None
