"""What a cluster says of a task's Job: one model for the worker, for adoption and for people. Pure.

A Job ends in steps. The container ``task`` ends, then the other containers of its Pod, and with them
the Pod. The Job controller announces the end (``SuccessCriteriaMet``, ``FailureTarget``), and declares
it when nothing of the Job is left to end or to count (``Complete``, ``Failed``). Any step may stay
away: a container runs on, a webhook keeps a finalizer, the Job controller does not run.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import TASK_CONTAINER
from oz_agent_worker.worker.backends.kubernetes.objects import (
    Condition,
    JobView,
    PodView,
    Terminated,
    in_order,
    last_pod,
)

from .own_end import own_end, task_end

__all__ = ["JobState", "TaskStage", "end_condition", "job_order", "job_state"]

#: Comes after every time.
_NEVER: Final = "~"

# batch/v1: JobComplete, JobFailed, JobSuccessCriteriaMet, JobFailureTarget.
_FINAL: Final = ("Complete", "Failed")
_ANNOUNCED: Final = (*_FINAL, "SuccessCriteriaMet", "FailureTarget")
_SUCCESSES: Final = frozenset({"Complete", "SuccessCriteriaMet"})


class TaskStage(StrEnum):
    """How far a task has come. ``ENDING``: the task itself has ended, and its Job has not."""

    CREATING = "creating"
    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


def end_condition(job: JobView) -> Condition | None:
    """Return the condition of a Job that has ended; its last transition is the time of the end."""
    return job.condition(*_FINAL)


def job_order(job: JobView) -> tuple[str, str]:
    """Order the Jobs of one task by their creation.

    Times are whole seconds. The executions of a task follow each other, so of two Jobs that were created
    in one second the one that ended first is the earlier one.
    """
    end = end_condition(job)
    ended = (end.last_transition_time or _NEVER) if end is not None else _NEVER
    return job.metadata.creation_timestamp or "", ended


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A Job and its Pods, the oldest first (``job_state``).

    - ``replaced``: how many of its Pods are gone that may have started work.
    - ``last``: the Pod that decides the outcome (``objects.last_pod``).
    - ``final``: the condition that ends the Job, ``Complete`` or ``Failed``: it never changes again.
    - ``verdict``: what the Job controller has decided: the final condition, or the one that announces it.
    - ``cause``: the earliest condition by which it failed the Job: its time is the decision's.
    - ``own_end``: how the container ``task`` of the last Pod ended by itself, if it did.
    """

    job: JobView
    pods: tuple[PodView, ...]
    replaced: int
    last: PodView | None
    final: Condition | None
    verdict: Condition | None
    cause: Condition | None
    own_end: Terminated | None

    @property
    def has_succeeded(self) -> bool:
        """Whether the Job controller has decided that the Job succeeded."""
        return self.verdict is not None and self.verdict.type in _SUCCESSES

    @property
    def may_run(self) -> bool:
        """Whether a Pod exists that has not ended."""
        return any(not pod.has_ended for pod in self.pods)

    @property
    def retries(self) -> int:
        """How often the Job may start its Pod again (``retry_on_disruption``)."""
        return (self.job.spec.backoff_limit if self.job.spec else None) or 0

    @property
    def stage(self) -> TaskStage:
        """How far the task has come."""
        if self.final is not None:
            return TaskStage.ENDED
        pod = self.last
        if self.own_end is not None or (self.verdict is not None and not self.may_run):
            return TaskStage.ENDING
        if pod is None or pod.phase in {"", "Pending"}:
            return TaskStage.PENDING
        if pod.has_ended:
            # Without retries no Pod follows the one that has ended.
            return TaskStage.PENDING if self.retries and pod.phase == "Failed" else TaskStage.ENDING
        task = next((c for c in pod.container_statuses if c.name == TASK_CONTAINER), None)
        if task is not None and task.terminated is not None:
            return TaskStage.ENDING
        return TaskStage.RUNNING if task is None or task.running is not None else TaskStage.PENDING

    @property
    def ended_at(self) -> datetime | None:
        """When the task ended, by the clock of whoever says so; ``None`` where it has not, or nobody says."""
        said = self.final or (self.verdict if not self.may_run else None)
        if said is not None:
            time = said.last_transition_time
        else:
            ended = task_end(self.last) if self.last is not None else None
            time = ended.finished_at if ended is not None else None
        return datetime.fromisoformat(time) if time else None

    def neighbours(self) -> tuple[str, ...]:
        """The containers beside ``task`` that run, by the last Pod's status."""
        statuses = self.last.container_statuses if self.last is not None else ()
        return tuple(c.name for c in statuses if c.name != TASK_CONTAINER and c.running)


def job_state(job: JobView, pods: tuple[PodView, ...], replaced: int = 0) -> JobState:
    """Put together what is known of a Job; ``pods`` in any order."""
    last, cause = last_pod(pods), job.condition("FailureTarget", "Failed")
    return JobState(
        job=job,
        pods=in_order(pods) if len(pods) > 1 else pods,
        replaced=replaced,
        last=last,
        final=end_condition(job),
        verdict=job.condition(*_ANNOUNCED),
        cause=cause,
        own_end=own_end(last, cause) if last is not None else None,
    )
