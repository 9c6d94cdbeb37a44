"""The state of a task's Job in one word, and why it is not another. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.objects import EventView, PodView, last_pod
from oz_agent_worker.worker.backends.kubernetes.status.events import NOT_READ, EventFacts, event_facts
from oz_agent_worker.worker.backends.kubernetes.status.failure import explain_failure, is_unexplained
from oz_agent_worker.worker.backends.kubernetes.status.finding import PodProblem
from oz_agent_worker.worker.backends.kubernetes.status.pending import missing_pod_problems
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.backends.kubernetes.status.waiting import pod_problems

from .task_jobs import TaskJob

__all__ = [
    "State",
    "facts_about",
    "is_ordinary",
    "is_starting",
    "lost_its_pods",
    "reason_of",
    "state_of",
    "with_endless_wait_as_problem",
]

#: In the keys of problems that every Pod has for a moment (``startup``).
_STEPS: Final = ("/starting/", "/pulling/")


class State(StrEnum):
    """Where a task is.

    ``ending``: its Job was deleted, and its Pod has its grace period; ``gone``: its Job is not
    there, and events alone tell of it.
    """

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ENDING = "ending"
    GONE = "gone"


def state_of(job: TaskJob, pods: Sequence[PodView]) -> State:
    """Say where a task is."""
    if job.condition("Complete") is not None:
        return State.SUCCEEDED
    if job.condition("Failed") is not None:
        return State.FAILED
    if job.metadata.deletion_timestamp is not None:
        return State.ENDING
    last = last_pod(pods)
    return State.RUNNING if last is not None and last.phase not in {"", "Pending"} else State.PENDING


def reason_of(
    job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy, events: Sequence[EventView] = ()
) -> str:
    """Why a task failed, or what it waits for: the word that the worker reports with.

    Empty where nothing is wrong. ``events`` are those of its objects, as far as they are known:
    some problems, and the ends of Pods that are gone, are told by them alone.
    """
    failure = job.condition("Failed")
    if failure is not None:
        outcome = explain_failure(failure, pods, events)
        return outcome.reason.value if outcome.reason else ""
    if state_of(job, pods) not in {State.PENDING, State.RUNNING}:
        return ""
    if job.condition("Suspended") is not None:
        return "suspended"
    seen = with_endless_wait_as_problem(policy)
    of_job = facts_about(job.metadata.uid, events)
    problems = [(problem, of_job) for problem in missing_pod_problems(job, pods, seen, of_job)]
    for pod in pods:
        of_pod = facts_about(pod.identity, events)
        problems += [(problem, of_pod) for problem in pod_problems(pod, seen, of_pod)]
    for problem, told in sorted(problems, key=lambda pair: is_ordinary(pair[0])):
        warned = bool(told.warning) and not told.pulling
        if warned or not is_ordinary(problem):
            return problem.reason.value
    return ""


def lost_its_pods(job: TaskJob, pods: Sequence[PodView]) -> bool:
    """Whether a task failed and only events can tell why."""
    failure = job.condition("Failed")
    return failure is not None and is_unexplained(explain_failure(failure, pods), pods)


def is_starting(pod: PodView, policy: ObservationPolicy) -> bool:
    """Whether all that is known to be wrong with a Pod is that it has not started yet."""
    problems = [*pod_problems(pod, with_endless_wait_as_problem(policy))]
    return bool(problems) and all(is_ordinary(problem) for problem in problems)


def facts_about(uid: str | None, events: Iterable[EventView]) -> EventFacts:
    """What ``events`` say of the object with this UID."""
    about = [event for event in events if event.involved_object and event.involved_object.uid == uid]
    return event_facts(uid or "", about, 0.0) if about else NOT_READ


def with_endless_wait_as_problem(policy: ObservationPolicy) -> ObservationPolicy:
    """The same policy for one who looks on: it is a problem, too, to wait without end for a node."""
    return replace(policy, unschedulable_timeout=policy.unschedulable_timeout or math.inf)


def is_ordinary(problem: PodProblem) -> bool:
    """Whether a problem is only that something takes its time, as it does in every task."""
    return problem.key.endswith("/unscheduled") or any(step in problem.key for step in _STEPS)
