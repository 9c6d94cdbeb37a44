"""Over every state of a Job and its Pods: nobody contradicts what the cluster says, nor the others."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.adoption.decision import (
    Adopt,
    AdoptionPolicy,
    JobContext,
    Liveness,
    decide,
)
from oz_agent_worker.worker.backends.kubernetes.inspection.explain import explain
from oz_agent_worker.worker.backends.kubernetes.inspection.task_jobs import TaskJob
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import State, outcome_of, reason_of
from oz_agent_worker.worker.backends.kubernetes.objects import ContainerStatus, PodView
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.job_state import TaskStage, job_state
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from tests.unit.worker.backends.kubernetes.samples import running, terminated, waiting
from tests.unit.worker.backends.kubernetes.tasks import CREATED, LATER, NOW, facts, task_job, task_pod

POLICY = ObservationPolicy()
#: A time in a second after those of all states, for every grace.
LATE = 1e6
DELETION = {"deletionTimestamp": LATER, "deletionGracePeriodSeconds": 30}
TIMES = st.sampled_from([None, CREATED, "2026-01-01T12:04:30Z", LATER])


def statuses(name: str) -> st.SearchStrategy[dict[str, Any]]:
    ends = st.builds(
        lambda code, reason, at: terminated(
            name, code, finishedAt=at, **({"reason": reason} if reason else {})
        ),
        st.sampled_from([0, 3, 137, 143]),
        st.sampled_from([None, "OOMKilled", "StartError", "ContainerStatusUnknown"]),
        TIMES,
    )
    return st.one_of(ends, st.just(running(name)), st.just(waiting(name, "PodInitializing")))


@st.composite
def pods(draw: st.DrawFn) -> tuple[PodView, ...]:
    found = []
    for number in range(draw(st.integers(0, 2))):
        target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        metadata = {
            "uid": f"uid-{number}",
            "name": f"pod-{number}",
            "creationTimestamp": draw(st.sampled_from([CREATED, LATER])),
            **draw(st.sampled_from([{}, DELETION])),
        }
        beside = draw(st.lists(statuses("proxy"), max_size=1))
        found.append(
            task_pod(
                draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])),
                metadata=metadata,
                reason=draw(st.sampled_from([None, None, "Evicted"])),
                conditions=draw(st.sampled_from([[], [target | {"lastTransitionTime": LATER}]])),
                containerStatuses=[draw(statuses("task")), *beside],
            )
        )
    return tuple(found)


@st.composite
def jobs(draw: st.DrawFn) -> TaskJob:
    kinds = draw(
        st.sampled_from(
            [
                (),
                (),
                ("SuccessCriteriaMet",),
                ("FailureTarget",),
                ("SuccessCriteriaMet", "Complete"),
                ("FailureTarget", "Failed"),
                ("Failed",),
                ("Suspended",),
            ]
        )
    )
    reason = draw(st.sampled_from(["BackoffLimitExceeded", "DeadlineExceeded"]))
    return task_job(
        *({"type": kind, "status": "True", "reason": reason} for kind in kinds),
        retries=draw(st.integers(0, 1)),
    )


def task_status(pod: PodView) -> ContainerStatus | None:
    return next((c for c in pod.container_statuses if c.name == "task"), None)


@settings(max_examples=250)
@given(jobs(), pods())
def test_nothing_runs_by_any_account_where_no_container_of_the_task_runs(
    job: TaskJob, found: tuple[PodView, ...]
) -> None:
    """K6, K10: neither ``explain`` nor ``tasks`` nor the worker says that a task runs that has ended."""
    answer = explain(facts(job, *found))
    runs = any(
        not pod.has_ended and pod.phase != "Pending" and (status := task_status(pod)) and status.running
        for pod in found
    )
    assert runs or answer.state is not State.RUNNING
    assert (" runs" in answer.headline.split("run-1", 1)[1][:5]) == (answer.state is State.RUNNING)
    seen = evaluate(Observation(job, found), {}, 0.0, POLICY)
    assert (seen.stage is TaskStage.RUNNING) == (answer.state is State.RUNNING)
    assert seen.stage is not TaskStage.ENDED or answer.state in {State.SUCCEEDED, State.FAILED}


@settings(max_examples=250)
@given(jobs(), pods())
def test_all_accounts_of_an_end_are_the_same(job: TaskJob, found: tuple[PodView, ...]) -> None:
    state = job_state(job, found)
    seen = evaluate(Observation(job, found), {}, 0.0, POLICY)
    late = evaluate(Observation(job, found), dict.fromkeys(seen.problems, -LATE), 0.0, POLICY)
    expected = outcome_of(state, POLICY)
    answer = explain(facts(job, *found))
    if expected is not None:
        assert late.outcome == expected
        assert answer.reason == reason_of(job, found, POLICY) == (expected.reason or "")
    if seen.outcome is not None:
        assert late.outcome == seen.outcome, "an end is never taken back"
        assert reason_of(job, found, POLICY) == (seen.outcome.reason or "")
    if answer.state in {State.SUCCEEDED, State.FAILED}:
        assert seen.outcome is not None
        assert (seen.outcome.result is TaskResult.SUCCEEDED) == (answer.state is State.SUCCEEDED)


@settings(max_examples=250)
@given(jobs(), pods(), st.integers(0, 2))
def test_the_tasks_own_end_decides_and_a_second_start_is_no_success(
    job: TaskJob, found: tuple[PodView, ...], replaced: int
) -> None:
    """K9, K10."""
    state = job_state(job, found, replaced)
    seen = evaluate(Observation(job, found, None, replaced), {}, 0.0, POLICY)
    late = evaluate(Observation(job, found, None, replaced), dict.fromkeys(seen.problems, -LATE), 0.0, POLICY)
    starts = replaced + sum(pod.has_started for pod in found)
    if starts > 1 + state.retries:
        assert seen.outcome is not None
        assert seen.outcome.reason is FailureReason.POD_REPLACED
    elif state.own_end is not None and not state.has_succeeded:
        assert late.outcome is not None
        if late.outcome.reason is not FailureReason.POD_REPLACED:
            succeeded = late.outcome.result is TaskResult.SUCCEEDED
            assert succeeded == (state.own_end.code == 0)
            assert late.outcome.exit_code in {None, state.own_end.code}
    if late.outcome is not None and late.outcome.result is TaskResult.SUCCEEDED and not state.has_succeeded:
        assert any(
            c.terminated and c.terminated.code == 0 for p in found for c in p.container_statuses
        ) or any(pod.phase == "Succeeded" for pod in found)


@settings(max_examples=150)
@given(jobs(), pods())
def test_a_task_that_has_ended_is_adopted_and_one_of_unknown_owner_never_while_it_runs(
    job: TaskJob, found: tuple[PodView, ...]
) -> None:
    state, policy = job_state(job, found), AdoptionPolicy()

    def decided(owner: Liveness) -> Any:
        context = JobContext(
            owner=owner,
            now=NOW + timedelta(seconds=policy.orphan_grace),
            superseded=False,
            started=True,
            secret=None,
            known_for=0.0,
        )
        return decide(state, "w1", context, policy)

    assert decided(Liveness.GONE) == Adopt()
    seen = evaluate(Observation(job, found), {}, 0.0, POLICY)
    adopted = decided(Liveness.UNKNOWN) == Adopt()
    assert not (adopted and seen.stage in {TaskStage.PENDING, TaskStage.RUNNING})
    assert adopted or not (
        seen.stage is TaskStage.ENDED or (seen.end is not None and state.ended_at is not None)
    )
