"""What becomes of a Job that this worker did not create: adopt it, wait, or ignore it. Pure.

Two rules come first: an execution is never started again, and never reported with two different
ends. A Job runs without any worker, so waiting costs nothing but time. How a task has ended follows
from its Job and Pods alone (``status.job_state``), so two workers that report it say the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import TypeAlias

from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.status.job_state import JobState, TaskStage, job_order

from .instance import UNAVAILABLE, Machine, ProcessInstance

__all__ = [
    "Adopt",
    "AdoptionDecision",
    "AdoptionPolicy",
    "CheckSecret",
    "Ignore",
    "IgnoreReason",
    "JobContext",
    "Liveness",
    "Wait",
    "decide",
    "process_liveness",
    "superseded_jobs",
]


class Liveness(Enum):
    """What is known of a Job's owner. ``UNKNOWN``: it cannot be looked up from here."""

    SELF = "self"
    GONE = "gone"
    ALIVE = "alive"
    UNKNOWN = "unknown"


class IgnoreReason(StrEnum):
    """Why a Job is ignored permanently."""

    NOT_A_TASK = "without the annotations that name a task and its execution"
    NOT_MINE = "of another worker, whose ID has the same hash"
    DELETING = "being deleted"
    TOO_OLD = "ended too long ago to be reported"
    SUPERSEDED = "ended, with a later execution of the same task beside it"


@dataclass(frozen=True, slots=True)
class Adopt:
    """The Job is this worker's."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again at a change, or after ``seconds``."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CheckSecret:
    """Adopt the Job if the Secret that its Pod waits for exists."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """Never adopt the Job."""

    reason: IgnoreReason


AdoptionDecision: TypeAlias = Adopt | Wait | CheckSecret | Ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionPolicy:
    """When Jobs are adopted; times in seconds.

    ``orphan_grace``: how long after its end a Job with an unknown owner is left to that owner.
    ``report_window``: a Job that ended longer ago is not reported. ``secret_grace``: how long a Job
    without its Secret waits for its task to be assigned again, which brings the variables.
    """

    orphan_grace: float = 600.0
    report_window: float = 3600.0
    secret_grace: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What else a decision on a Job depends on.

    ``now`` is the API server's time. ``superseded``: a later Job of the same task exists.
    ``started``: one of its Pods is past Pending. ``secret``: whether the Secret that it names
    exists, ``None`` until that was asked. ``known_for``: how long this worker has known the Job, in
    seconds.
    """

    owner: Liveness
    now: datetime
    superseded: bool
    started: bool
    secret: bool | None
    known_for: float


def decide(
    state: JobState, worker_label: str, context: JobContext, policy: AdoptionPolicy
) -> AdoptionDecision:
    """Decide on a Job with this worker's hash; ``worker_label`` is the worker's ID as a label holds it."""
    job, metadata = state.job, state.job.metadata
    if (metadata.labels.worker_id if metadata.labels else None) != worker_label:
        return Ignore(IgnoreReason.NOT_MINE)
    if metadata.key is None:
        return Ignore(IgnoreReason.NOT_A_TASK)
    if metadata.deletion_timestamp is not None:
        # The client that deleted it has decided on it, and may have reported its end.
        return Ignore(IgnoreReason.DELETING)
    if context.owner is Liveness.ALIVE:
        return Wait()
    if context.superseded and state.stage in {TaskStage.ENDING, TaskStage.ENDED}:
        return Ignore(IgnoreReason.SUPERSEDED)
    if state.stage is TaskStage.ENDED:
        return _decide_ended(_age(state, context.now), context, policy)
    if context.owner is Liveness.UNKNOWN:
        # A task that has ended and whose Job has not is that owner's to report as well.
        if state.ended_at is None or state.stage is not TaskStage.ENDING:
            return Wait()
        left = policy.orphan_grace - _age(state, context.now)
        return Wait(left) if left > 0 else Adopt()
    return _decide_active(job, context, policy)


def _decide_ended(age: float, context: JobContext, policy: AdoptionPolicy) -> AdoptionDecision:
    if age > policy.report_window:
        return Ignore(IgnoreReason.TOO_OLD)
    if context.owner is Liveness.UNKNOWN and age < policy.orphan_grace:
        return Wait(policy.orphan_grace - age)
    return Adopt()


def _decide_active(job: JobView, context: JobContext, policy: AdoptionPolicy) -> AdoptionDecision:
    """A Job without its Secret was never claimed: its task is assigned again, with its variables."""
    annotations = job.metadata.annotations
    if annotations is None or annotations.environment_secret is None or context.started or context.secret:
        return Adopt()
    if context.secret is None:
        return CheckSecret()
    left = policy.secret_grace - context.known_for
    return Wait(left) if left > 0 else Adopt()


def _age(state: JobState, now: datetime) -> float:
    """Return the seconds since a task's end; an end without a time counts as now."""
    return (now - state.ended_at).total_seconds() if state.ended_at is not None else 0.0


def superseded_jobs(jobs: Iterable[JobView], worker_label: str) -> frozenset[str]:
    """Return the names of this worker's Jobs for whose task a later Job exists.

    The frames of the public protocol name a task and no execution: a late report of an earlier
    execution would count as the end of the last.
    """
    mine = [job for job in jobs if job.metadata.labels and job.metadata.labels.worker_id == worker_label]
    newest: dict[str, tuple[str, str]] = {}
    for job in mine:
        if job.metadata.key is not None:
            task = job.metadata.key.task_id
            newest[task] = max(newest.get(task, ("", "")), job_order(job))
    return frozenset(
        job.metadata.name
        for job in mine
        if job.metadata.key and job_order(job) < newest[job.metadata.key.task_id]
    )


def process_liveness(owner: ProcessInstance, machine: Machine, started: str | None) -> Liveness:
    """Return whether a process that owns Jobs is alive, as seen from ``machine``.

    ``started`` is the start time of the process with its ID there: ``None`` if there is none,
    ``UNAVAILABLE`` if the system does not provide it. An owner without a PID namespace counts as one in this
    process's namespace.
    """
    if owner.machine.host != machine.host:
        return Liveness.UNKNOWN
    if owner.machine.boot != machine.boot:
        return Liveness.UNKNOWN if UNAVAILABLE in (owner.machine.boot, machine.boot) else Liveness.GONE
    if owner.machine.pid_namespace not in (UNAVAILABLE, machine.pid_namespace):
        # In another PID namespace its ID names no process, or another one.
        return Liveness.UNKNOWN
    if started is None:
        return Liveness.GONE
    if started == UNAVAILABLE:
        return Liveness.UNKNOWN
    return Liveness.ALIVE if started == owner.started else Liveness.GONE
