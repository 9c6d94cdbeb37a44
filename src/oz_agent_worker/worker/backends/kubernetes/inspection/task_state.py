"""The state and the reason of a task, each in one word, and the problems that they follow from. Pure."""

import math
from collections import defaultdict
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
    "is_ordinary",
    "is_starting",
    "lost_its_pods",
    "reason_of",
    "state_of",
    "task_problems",
]

#: Parts of the keys of problems that every Pod has for a moment (``status.waiting``).
_STEPS: Final = ("/starting/", "/pulling/")


class State(StrEnum):
    """The state of a task.

    ``ending``: its Job is being deleted, and its Pod has its grace period. ``gone``: its Job does
    not exist; only events mention it.
    """

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ENDING = "ending"
    GONE = "gone"


def state_of(job: TaskJob, pods: Sequence[PodView]) -> State:
    """Return the state of a task."""
    if job.condition("Complete") is not None:
        return State.SUCCEEDED
    if job.condition("Failed") is not None:
        return State.FAILED
    if job.metadata.deletion_timestamp is not None:
        return State.ENDING
    last = last_pod(pods)
    return State.RUNNING if last is not None and last.phase not in {"", "Pending"} else State.PENDING


def reason_of(
    job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy, events: Iterable[EventView] = ()
) -> str:
    """Return why a task failed, or what it waits for: the reason that the worker reports.

    Empty if nothing is wrong. ``events`` are those of the Job and its Pods, as far as they are known:
    only events show some problems, and how Pods that are gone ended.
    """
    failure = job.condition("Failed")
    if failure is not None:
        outcome = explain_failure(failure, pods, events)
        return outcome.reason.value if outcome.reason else ""
    if state_of(job, pods) not in {State.PENDING, State.RUNNING}:
        return ""
    if job.condition("Suspended") is not None:
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
    found = [(problem, of_job) for problem in missing_pod_problems(job, pods, policy, of_job)]
    for pod in pods:
        of_pod = facts_about(pod.identity)
        found += [(problem, of_pod) for problem in pod_problems(pod, policy, of_pod)]
    return sorted(found, key=lambda pair: (is_ordinary(pair[0]), pair[0].grace))


def lost_its_pods(job: TaskJob, pods: Sequence[PodView]) -> bool:
    """Whether a task failed and only events can show why."""
    failure = job.condition("Failed")
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
