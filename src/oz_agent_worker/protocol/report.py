"""What a worker reports about an execution, as frames of the wire."""

from dataclasses import dataclass

from .failure_reasons import RejectionReason
from .frames import ExecutionKey, TaskClaimed, TaskCompleted, TaskFailed, TaskRejected
from .outcome import Outcome, TaskResult

__all__ = ["CANCELLED", "ExecutionKey", "TerminalReport", "claim", "rejection", "terminal_frame"]

#: ``task_state`` of a task that was cancelled.
CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class TerminalReport:
    """The outcome of an execution, to be delivered to the control plane."""

    key: ExecutionKey
    outcome: Outcome


def claim(key: ExecutionKey, worker_id: str, *, extended: bool) -> TaskClaimed:
    """Return the frame that claims a task. ``extended``: the peer negotiated ``ack``."""
    return TaskClaimed(
        task_id=key.task_id, worker_id=worker_id, execution_id=key.execution_id if extended else None
    )


def rejection(key: ExecutionKey, reason: str, message: str | None = None, *, extended: bool) -> TaskRejected:
    """Return the frame that hands a task back: it stays queued at the control plane.

    ``reason`` and ``message``, which says what happened, are for a peer that negotiated ``ack``
    (``extended``); the public protocol has one reason.
    """
    if not extended:
        return TaskRejected(task_id=key.task_id, reason=RejectionReason.AT_CAPACITY.value)
    text = message.encode("utf-8", "replace").decode() if message else None
    return TaskRejected(task_id=key.task_id, reason=reason, message=text, execution_id=key.execution_id)


def terminal_frame(report: TerminalReport, *, ack_id: str | None) -> TaskCompleted | TaskFailed:
    """Return the frame that ends a task; ``ack_id`` is for a peer that negotiated ``ack``.

    To any other peer the failure reason is one of the public protocol.
    """
    key, outcome = report.key, report.outcome
    # A text of the operating system may hold surrogates, which are not valid UTF-8 (PEP 383).
    message = outcome.for_owner().encode("utf-8", "replace").decode()
    execution_id = key.execution_id if ack_id is not None else None
    if outcome.result is TaskResult.FAILED:
        reason = outcome.reason
        return TaskFailed(
            task_id=key.task_id,
            message=message,
            failure_reason=None if reason is None else reason.public if ack_id is None else reason.value,
            exit_code=outcome.exit_code or None,
            execution_id=execution_id,
            ack_id=ack_id,
        )
    return TaskCompleted(
        task_id=key.task_id,
        message=message,
        task_state=CANCELLED if outcome.result is TaskResult.CANCELLED else None,
        execution_id=execution_id,
        ack_id=ack_id,
    )
