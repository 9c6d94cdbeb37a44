"""What becomes of a Job that this worker did not create: follow it, wait, or leave it. Pure.

Two rules stand above all: an execution is never started again, and never reported to two
different ends. A Job runs without any worker, so that waiting costs time and nothing else;
how a Job has ended follows from the Job alone, so that even two who report it say the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from oz_agent_worker.worker.backends.kubernetes.objects import Condition, JobView

from .instance import UNSAID, Machine, ProcessInstance

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
    "end_condition",
    "process_liveness",
    "superseded",
]

_ENDS: Final = ("Complete", "Failed")


class Liveness(Enum):
    """What is known of a Job's owner. ``UNKNOWN``: it cannot be looked for from here."""

    SELF = "self"
    GONE = "gone"
    ALIVE = "alive"
    UNKNOWN = "unknown"


class IgnoreReason(StrEnum):
    """Why Jobs are left alone for good."""

    NOT_A_TASK = "without the annotations that name a task and its execution"
    NOT_MINE = "of another worker, whose ID has the same hash"
    GOING = "being deleted"
    LONG_PAST = "ended too long ago to be reported"
    SUPERSEDED = "ended, with a later execution of the same task beside it"


@dataclass(frozen=True, slots=True)
class Adopt:
    """The Job is this worker's."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It may become this worker's: at a change, or in so many ``seconds``."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CheckSecret:
    """It would be this worker's, if the Secret that its Pod waits for is there."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """It is nothing to this worker."""

    reason: IgnoreReason


AdoptionDecision: TypeAlias = Adopt | Wait | CheckSecret | Ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionPolicy:
    """Times in seconds, from a Job's end or from when it was first seen.

    ``orphan_grace``: how long its unknown owner may take to report a Job that has ended.
    ``report_window``: what ended longer ago is nobody's news. ``secret_grace``: how long the
    task of a Job without its Secret may take to be assigned again, with its variables.
    """

    orphan_grace: float = 600.0
    report_window: float = 3600.0
    secret_grace: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What stands around a Job.

    ``now`` is the API server's time. ``superseded``: see the function. ``started``: a Pod of
    it has got past its containers' creation. ``secret`` tells whether the Secret that it names
    is there, ``None`` where nobody has looked; ``seen_for`` is since when the worker knows the
    Job, in seconds.
    """

    owner: Liveness
    now: datetime
    superseded: bool = False
    started: bool = True
    secret: bool | None = None
    seen_for: float = 0.0


def decide(job: JobView, worker_label: str, around: JobContext, rules: AdoptionPolicy) -> AdoptionDecision:
    """Decide on a Job that has this worker's hash; ``worker_label`` is its ID as a label holds it."""
    metadata = job.metadata
    if (metadata.labels.worker_id if metadata.labels else None) != worker_label:
        return Ignore(IgnoreReason.NOT_MINE)
    if metadata.key is None:
        return Ignore(IgnoreReason.NOT_A_TASK)
    if metadata.deletion_timestamp is not None:
        # Somebody has decided on it already, and may have said so.
        return Ignore(IgnoreReason.GOING)
    if around.owner is Liveness.ALIVE:
        return Wait()
    end = end_condition(job)
    if end is not None:
        return _decide_ended(_age(end, around.now), around, rules)
    if around.owner is Liveness.UNKNOWN:
        return Wait()
    return _decide_active(job, around, rules)


def _decide_ended(age: float, around: JobContext, rules: AdoptionPolicy) -> AdoptionDecision:
    if around.superseded:
        return Ignore(IgnoreReason.SUPERSEDED)
    if age > rules.report_window:
        return Ignore(IgnoreReason.LONG_PAST)
    if around.owner is Liveness.UNKNOWN and age < rules.orphan_grace:
        return Wait(rules.orphan_grace - age)
    return Adopt()


def _decide_active(job: JobView, around: JobContext, rules: AdoptionPolicy) -> AdoptionDecision:
    """A Job without its Secret was never claimed: its task comes again, and brings its variables."""
    annotations = job.metadata.annotations
    if annotations is None or annotations.environment_secret is None or around.started or around.secret:
        return Adopt()
    if around.secret is None:
        return CheckSecret()
    left = rules.secret_grace - around.seen_for
    return Wait(left) if left > 0 else Adopt()


def end_condition(job: JobView) -> Condition | None:
    """The condition that says that a Job has ended; its transition is the time of the end."""
    return next((end for end in map(job.condition, _ENDS) if end is not None), None)


def _age(end: Condition, now: datetime) -> float:
    """Seconds since an end; one without a time has just been."""
    if end.last_transition_time is None:
        return 0.0
    return (now - datetime.fromisoformat(end.last_transition_time)).total_seconds()


def superseded(jobs: Iterable[JobView], worker_label: str) -> frozenset[str]:
    """Name the Jobs of this worker beside which a later one of the same task stands.

    The frames of the public protocol name a task and no execution: reported late, the end of
    an earlier one would be taken for that of the last.
    """
    mine = [job for job in jobs if job.metadata.labels and job.metadata.labels.worker_id == worker_label]
    newest: dict[str, str] = {}
    for job in mine:
        if job.metadata.key is not None:
            task, created = job.metadata.key.task_id, job.metadata.creation_timestamp or ""
            newest[task] = max(newest.get(task, ""), created)
    return frozenset(
        job.metadata.name
        for job in mine
        if job.metadata.key and (job.metadata.creation_timestamp or "") < newest[job.metadata.key.task_id]
    )


def process_liveness(owner: ProcessInstance, machine: Machine, started: str | None) -> Liveness:
    """Whether a process that owns Jobs goes on, as seen from ``machine``.

    ``started`` is the start time of what has its process ID there: ``None`` where nothing
    has, ``UNSAID`` where the system does not tell. An owner that names no PID namespace is
    taken for one of this machine's own.
    """
    if owner.machine.host != machine.host:
        return Liveness.UNKNOWN
    if owner.machine.boot != machine.boot:
        return Liveness.UNKNOWN if UNSAID in (owner.machine.boot, machine.boot) else Liveness.GONE
    if owner.machine.pid_namespace not in (UNSAID, machine.pid_namespace):
        # Its ID is nobody's or somebody else's here, whether or not it lives.
        return Liveness.UNKNOWN
    if started is None:
        return Liveness.GONE
    if started == UNSAID:
        return Liveness.UNKNOWN
    return Liveness.ALIVE if started == owner.started else Liveness.GONE
