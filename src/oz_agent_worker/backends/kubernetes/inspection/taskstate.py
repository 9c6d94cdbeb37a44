"""The state of a task's Job in one word, and why it is not another. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from oz_agent_worker.backends.kubernetes.judgement.absence import missing_pod
from oz_agent_worker.backends.kubernetes.judgement.patience import ObservationPolicy, Trouble
from oz_agent_worker.backends.kubernetes.judgement.postmortem import explain_failure
from oz_agent_worker.backends.kubernetes.judgement.troubles import pod_troubles
from oz_agent_worker.backends.kubernetes.views import PodView, last_pod

from .inspected import TaskJob

__all__ = ["State", "is_ordinary", "reason_of", "state_of", "watchful"]

#: In the keys of troubles that every Pod has for a moment (``startup``).
_STEPS: Final = ("/starting/", "/pulling/")


class State(StrEnum):
    """Where a task is. ``ending``: its Job was deleted, and its Pod has its grace period."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ENDING = "ending"


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


def reason_of(job: TaskJob, pods: Sequence[PodView], policy: ObservationPolicy) -> str:
    """Why a task failed, or what it waits for: the word that the worker reports with.

    Empty where nothing is wrong; what only events tell is not in it.
    """
    failure = job.condition("Failed")
    if failure is not None:
        outcome = explain_failure(failure, pods)
        return outcome.reason.value if outcome.reason else ""
    if state_of(job, pods) not in {State.PENDING, State.RUNNING}:
        return ""
    if job.condition("Suspended") is not None:
        return "suspended"
    seen = watchful(policy)
    troubles = [*missing_pod(job, pods, seen)]
    for pod in pods:
        troubles += pod_troubles(pod, seen)
    for trouble in troubles:
        if trouble.outcome.reason and not is_ordinary(trouble):
            return trouble.outcome.reason.value
    return ""


def watchful(policy: ObservationPolicy) -> ObservationPolicy:
    """The same policy for one who looks on: it is a trouble, too, to wait without end for a node."""
    return replace(policy, unschedulable_timeout=policy.unschedulable_timeout or math.inf)


def is_ordinary(trouble: Trouble) -> bool:
    """Whether a trouble is only that something takes its time, as it does in every task."""
    return trouble.key.endswith("/unscheduled") or any(step in trouble.key for step in _STEPS)
