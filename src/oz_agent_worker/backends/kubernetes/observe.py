"""What a Job and its Pods say of a task: pure judgement over observed state.

Only evidence about the task itself fails it. The Job's own conditions are the end of
every task; before that, a Pod in trouble fails its task when the trouble has lasted too
long. How long is measured by the worker's own clock, from when it first saw the trouble:
the clock of the API server may be another, and a skew must not fail a task. The caller
keeps these times, ``Verdict.troubles`` tells it which to keep.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from oz_agent_worker.core.outcome import Outcome, succeeded

from .podtemplate import TASK_CONTAINER
from .postmortem import explain_failure
from .troubles import ObservationPolicy, Trouble, pod_troubles
from .views import JobView, PodView, last_pod

__all__ = ["Observation", "ObservationPolicy", "TaskPhase", "Verdict", "judge", "primary_container"]

TaskPhase = Literal["creating", "pending", "running", "finished"]


@dataclass(frozen=True, slots=True)
class Observation:
    """The latest known state of one execution: its Job, and the Pods of that Job."""

    job: JobView | None
    pods: tuple[PodView, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an observation means.

    ``outcome`` is set once the task has ended or cannot run. ``look_again_at`` is when,
    in the epoch seconds of ``now``, the same observation would fail the task, ``None``
    where time alone changes nothing. ``troubles`` are the keys of what is wrong.
    """

    outcome: Outcome | None
    look_again_at: float | None
    phase: TaskPhase
    troubles: frozenset[str] = frozenset()


_CREATING: Final = Verdict(None, None, "creating")
_PENDING: Final = Verdict(None, None, "pending")
_RUNNING: Final = Verdict(None, None, "running")


def primary_container(pod: PodView) -> str:
    """The container whose output is the task's."""
    return TASK_CONTAINER


def judge(
    observation: Observation, first_seen: Mapping[str, float], now: float, policy: ObservationPolicy
) -> Verdict:
    """Judge an observation.

    ``first_seen`` holds when each trouble was first seen, by key; a trouble that is not
    in it begins at ``now``. Both are epoch seconds of the worker's own clock. A Job or a
    Pod that is missing says nothing here: that is not yet evidence.
    """
    job = observation.job
    if job is None:
        return _CREATING
    ended = _job_end(job, observation.pods)
    if ended is not None:
        return Verdict(ended, None, "finished")
    troubles = [trouble for pod in observation.pods for trouble in pod_troubles(pod, policy)]
    last = last_pod(observation.pods)
    started = last is not None and last.phase not in {"", "Pending"}
    if not troubles:
        return _RUNNING if started else _PENDING
    return _weigh(troubles, first_seen, now, "running" if started else "pending")


def _job_end(job: JobView, pods: tuple[PodView, ...]) -> Outcome | None:
    """batch/v1, JobCondition ``Complete`` and ``Failed``: exactly one, once, and for good."""
    if job.status is None or not job.status.conditions:
        return None
    if job.condition("Complete") is not None:
        return succeeded()
    failure = job.condition("Failed")
    return explain_failure(failure, pods) if failure is not None else None


def _weigh(troubles: list[Trouble], first_seen: Mapping[str, float], now: float, phase: TaskPhase) -> Verdict:
    """Fail the task for the first trouble whose grace is over; else say when one will be."""
    keys = frozenset(trouble.key for trouble in troubles)
    due: list[float] = []
    for trouble in troubles:
        over_at = first_seen.get(trouble.key, now) + trouble.grace
        if over_at <= now:
            return Verdict(trouble.outcome, None, phase, keys)
        due.append(over_at)
    return Verdict(None, min(due), phase, keys)
