"""The state and the reason of a task, each in one word, and the problems that they follow from. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.ending import end_of_task, surplus_pod
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts, event_facts
from oz_agent_worker.worker.backends.kubernetes.status.failure import explain_failure, is_unexplained
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.job_state import JobState, TaskStage, job_state
from oz_agent_worker.worker.backends.kubernetes.status.pending import missing_pod_problems
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.waiting import pod_problems

from .task_jobs import TaskJob

__all__ = [
    "State",
    "is_ordinary",
    "is_starting",
    "lost_its_pods",
    "outcome_of",
    "reason_of",
    "state_of",
    "task_problems",
]

#: Parts of the keys of problems that every Pod has for a moment (``status.waiting``).
_STEPS: Final = ("/starting/", "/pulling/")


class State(StrEnum):
    """The state of a task.

    ``ending``: the task has ended, and its Job has not; or its Job is being deleted, and its Pod has its
    grace period. ``gone``: its Job does not exist; only events mention it.
    """

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ENDING = "ending"
    GONE = "gone"


_STATES: Final = {
    TaskStage.CREATING: State.PENDING,
    TaskStage.PENDING: State.PENDING,
    TaskStage.RUNNING: State.RUNNING,
    TaskStage.ENDING: State.ENDING,
    TaskStage.ENDED: State.FAILED,
}


def outcome_of(
    state: JobState, policy: ObservationPolicy, events: Iterable[EventView] = ()
) -> Outcome | None:
    """Return how a task ended, as the worker reports it, or will after a grace; ``None`` while it goes on."""
    if state.stage not in {TaskStage.ENDING, TaskStage.ENDED}:
        return None
    surplus, end = surplus_pod(state, policy), end_of_task(state, policy, events)
    if surplus is not None and surplus.grace <= 0:
        return surplus.outcome
    return end.outcome if end is not None else None


def state_of(job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy) -> State:
    """Return the state of a task."""
    state = job_state(job, tuple(pods))
    if state.stage is TaskStage.ENDED:
        outcome = outcome_of(state, policy)
        succeeded = outcome is not None and outcome.result is TaskResult.SUCCEEDED
        return State.SUCCEEDED if succeeded else State.FAILED
    return State.ENDING if job.metadata.deletion_timestamp is not None else _STATES[state.stage]


def reason_of(
    job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy, events: Iterable[EventView] = ()
) -> str:
    """Return why a task failed, or what it waits for: the reason that the worker reports.

    Empty if nothing is wrong. ``events`` are those of the Job and its Pods, as far as they are known:
    only events show some problems, and how Pods that are gone ended.
    """
    state = job_state(job, tuple(pods))
    if job.metadata.deletion_timestamp is not None and state.final is None:
        return ""
    outcome = outcome_of(state, policy, events)
    if outcome is not None:
        return outcome.reason.value if outcome.reason else ""
    surplus = surplus_pod(state, policy)
    if surplus is not None:
        return surplus.reason.value
    if job.condition("Suspended") is not None and state.stage is TaskStage.PENDING:
        return "suspended"
    for problem, facts in task_problems(job, pods, policy, events):
        if (facts.warning and not facts.pulling) or not is_ordinary(problem):
            return problem.reason.value
    return ""


def task_problems(
    job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy, events: Iterable[EventView]
) -> list[tuple[PodProblem, EventFacts]]:
    """Return the problems of a task, each with what the events say of its object; the worst first.

    Waiting for a node is a problem even if the worker waits without end.
    """
    policy = _with_finite_wait(policy)
    by_object: dict[str, list[EventView]] = defaultdict(list)
    for event in events:
        by_object[(event.involved_object and event.involved_object.uid) or ""].append(event)

    def facts_about(uid: str) -> EventFacts:
        return event_facts(uid, by_object[uid], 0.0) if by_object[uid] else NOT_READ

    of_job = facts_about(job.metadata.uid or "")
    surplus = surplus_pod(job_state(job, tuple(pods)), policy)
    found = [(surplus, of_job)] if surplus is not None else []
    found += [(problem, of_job) for problem in missing_pod_problems(job, pods, policy, of_job)]
    for pod in pods:
        of_pod = facts_about(pod.identity)
        found += [(problem, of_pod) for problem in pod_problems(pod, policy, of_pod)]
    return sorted(found, key=lambda pair: (is_ordinary(pair[0]), pair[0].grace))


def lost_its_pods(job: TaskJob, pods: Sequence[PodView]) -> bool:
    """Whether a task failed and only events can show why."""
    failure = job_state(job, tuple(pods)).cause
    return failure is not None and is_unexplained(explain_failure(failure, pods), pods)


def is_starting(pod: PodView, policy: ObservationPolicy) -> bool:
    """Whether a Pod has no problem but that it has not started yet."""
    problems = [*pod_problems(pod, _with_finite_wait(policy))]
    return bool(problems) and all(is_ordinary(problem) for problem in problems)


def _with_finite_wait(policy: ObservationPolicy) -> ObservationPolicy:
    """Return the policy with a timeout for Pods without a node: 0, no timeout, makes them no problem."""
    return replace(policy, unschedulable_timeout=policy.unschedulable_timeout or math.inf)


def is_ordinary(problem: PodProblem) -> bool:
    """Whether a problem is only that a step takes its time, as in every task."""
    return problem.key.endswith("/unscheduled") or any(step in problem.key for step in _STEPS)
