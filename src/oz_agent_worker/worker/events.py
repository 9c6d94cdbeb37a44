"""What happens in a worker, for listeners: metrics, traces, log fields.

An event says what happened in the worker's own terms and knows no listener. The code that
meets it calls a ``Notify``. A listener neither blocks nor raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "ConnectionChanged",
    "EventKind",
    "KindInfo",
    "Notify",
    "Reconnecting",
    "RequestAnswered",
    "TaskEvent",
    "WatchRestarted",
    "WatchStatus",
    "WorkerEvent",
    "ignore_event",
]


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What one kind of task event means, and what the listeners make of it.

    ``span_event`` is the name of its event in the task's span, ``counter`` the metric that it adds
    1 to. The event's ``detail`` is shown under these names: ``label`` of the counter and of the span
    event, ``log_field`` of the task's log lines, ``span_attribute`` of the span.
    """

    meaning: str
    span_event: str | None = None
    counter: str | None = None
    label: str | None = None
    log_field: str | None = None
    span_attribute: str | None = None


class EventKind(Enum):
    """What happens to an execution; one entry here is all that a listener needs to know."""

    ASSIGNED = KindInfo("an assignment was accepted", "task.assigned")
    ADOPTED = KindInfo(
        "an execution of an earlier worker is continued",
        "task.taken_over",
        counter="oz_worker_tasks_taken_over_total",
    )
    REJECTED = KindInfo(
        "it was handed back to the control plane",
        "task.rejected",
        counter="oz_worker_tasks_rejected_total",
        label="reason",
    )
    STARTED = KindInfo("the Job is created, or the first command about to run", "backend.started")
    CLAIMED = KindInfo("the claim is queued", "task.claimed", counter="oz_worker_tasks_claimed_total")
    JOB_NAMED = KindInfo("its Job is known", log_field="job", span_attribute="k8s.job.name")
    AGENT_STARTED = KindInfo("the agent, or the Pod around it, was seen running", "task.started")
    CANCEL_REQUESTED = KindInfo("the control plane asked for its end", "task.cancellation_requested")
    ENDED = KindInfo("its outcome is known; the span event is named by the result")
    CLEANUP_FAILED = KindInfo("what it left could not be removed", "cleanup.failed")
    RELEASED = KindInfo("the worker holds nothing of it any more")
    TRACE_BEGAN = KindInfo("it has a span", log_field="trace_id")


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to one execution.

    ``detail`` by kind: the time at which the run was created (``ASSIGNED``, RFC 3339), the
    rejection's reason, the Job's name, the trace's ID in 32 hexadecimal digits (W3C Trace
    Context); else empty. ``outcome`` is set for ``ENDED``. ``already_ended`` (``ADOPTED``): the
    execution had ended before this worker found it. ``AGENT_STARTED`` may come more than once.
    """

    kind: EventKind
    key: ExecutionKey
    detail: str = ""
    outcome: Outcome | None = None
    already_ended: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """The connection to the control plane is there, or is gone."""

    connected: bool


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The worker will connect again; ``reason`` is ``dial_failed`` or ``remote_close``."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The Kubernetes API answered after ``seconds``, or did not: then ``code`` is 0."""

    verb: str
    resource: str
    code: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WatchRestarted:
    """A watch has to be opened again; ``reason`` is ``ended``, ``error`` or ``relist``."""

    resource: str
    reason: str


WorkerEvent: TypeAlias = TaskEvent | ConnectionChanged | Reconnecting | RequestAnswered | WatchRestarted

Notify: TypeAlias = Callable[[WorkerEvent], None]


def ignore_event(event: WorkerEvent) -> None:
    """Do nothing: a ``Notify`` without a listener."""


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The state of the watch of one resource, for probes and metrics; times in seconds.

    ``running``: the task that keeps the watch has not ended. ``silent_for``: since the server
    last sent anything, a bookmark included. ``idle_for``: since the watch last did anything,
    such as receive, or try to reach a server that does not answer; beyond ``idle_limit`` it hangs.
    ``failing_for``: since it was interrupted and could not be opened again, 0 while it is open;
    ``problem`` says why.
    """

    resource: str
    running: bool
    silent_for: float
    idle_for: float
    idle_limit: float
    failing_for: float = 0.0
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Whether it runs and keeps within its own limit."""
        return self.running and self.idle_for <= self.idle_limit
