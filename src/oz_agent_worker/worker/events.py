"""What a worker does and meets, told as it happens to whoever listens: metrics, traces, log fields.

A notice says what happened in the worker's own terms and knows of no listener. Whoever
tells one calls a ``Notify``; a listener neither blocks nor raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "AgentStarted",
    "CancelRequested",
    "CleanupFailed",
    "Connected",
    "Disconnected",
    "JobNamed",
    "Notice",
    "Notify",
    "Reconnecting",
    "RequestAnswered",
    "TaskAdopted",
    "TaskAssigned",
    "TaskClaimed",
    "TaskEnded",
    "TaskRejected",
    "TaskReleased",
    "TraceBegan",
    "WatchRestarted",
    "WorkStarted",
    "ignore_event",
]


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    """The worker took an assignment into its hands; ``created_at`` is the run's, RFC 3339."""

    key: ExecutionKey
    created_at: str | None = None


@dataclass(frozen=True, slots=True)
class TaskAdopted:
    """The worker goes on with an execution that an earlier worker left; ``ended``: it had ended before."""

    key: ExecutionKey
    ended: bool = False


@dataclass(frozen=True, slots=True)
class TaskRejected:
    """An execution was handed back, before or after it was in hand."""

    key: ExecutionKey
    reason: str


@dataclass(frozen=True, slots=True)
class TaskClaimed:
    """The claim is on its way to the control plane."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class WorkStarted:
    """The backend has the work: the Job is created, or the first command about to be run."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class JobNamed:
    """Which Job an execution is."""

    key: ExecutionKey
    job: str


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The agent's program, or the Pod around it, was seen to run. May be told again."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The control plane asked for the execution's end."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """The outcome is known; its report is not delivered yet."""

    key: ExecutionKey
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CleanupFailed:
    """What a reported execution left could not be removed."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class TaskReleased:
    """Nothing of the execution is in the worker's hands any more."""

    key: ExecutionKey


@dataclass(frozen=True, slots=True)
class TraceBegan:
    """The execution has a span; ``trace_id`` in 32 hexadecimal digits (W3C Trace Context)."""

    key: ExecutionKey
    trace_id: str


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection to the control plane."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is no more."""


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
    """A watch is to be opened once more; ``reason`` is ``ended``, ``error`` or ``relist``."""

    resource: str
    reason: str


Notice: TypeAlias = (
    TaskAssigned
    | TaskAdopted
    | TaskRejected
    | TaskClaimed
    | WorkStarted
    | JobNamed
    | AgentStarted
    | CancelRequested
    | TaskEnded
    | CleanupFailed
    | TaskReleased
    | TraceBegan
    | Connected
    | Disconnected
    | Reconnecting
    | RequestAnswered
    | WatchRestarted
)

Notify: TypeAlias = Callable[[Notice], None]


def ignore_event(notice: Notice) -> None:
    """Nobody listens."""
