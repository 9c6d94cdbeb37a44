"""Maps a worker's terminal report to the outcome of the run.

``FAILED``: the agent, or what it was asked to do, failed. The user has to fix it.
``ERROR``: the infrastructure that runs the agent failed. The operator has to fix it, and another try
may succeed. ``protocol.failure_reasons`` says which reason is which.
"""

from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason, Fault
from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed

from .messages import storable
from .run_states import RunOutcome, RunState

__all__ = ["outcome_of"]

_REASONS: Final = {reason.value: reason for reason in FailureReason}
_LONGEST_REASON: Final = 64
_INT32: Final = 2**31 - 1


def outcome_of(report: TaskCompleted | TaskFailed) -> RunOutcome:
    """The outcome of a run as its worker reports it.

    Without a reason, or with ``unknown``, the exit code decides: a program that ran and failed is
    the agent's failure, anything else the infrastructure's. A reason that
    this version does not know is the infrastructure's, and retryable.
    """
    message = storable(report.message)
    if report.task_state == RunState.CANCELLED:
        return RunOutcome(state=RunState.CANCELLED, message=message)
    if isinstance(report, TaskCompleted):
        return RunOutcome(state=RunState.SUCCEEDED, message=message, exit_code=0)
    reason = storable(report.failure_reason or FailureReason.UNKNOWN, _LONGEST_REASON)
    exit_code = report.exit_code if report.exit_code and abs(report.exit_code) <= _INT32 else None
    if reason == FailureReason.TASK_CANCELLED:
        return RunOutcome(state=RunState.CANCELLED, message=message, exit_code=exit_code)
    known = _REASONS.get(reason, FailureReason.UNKNOWN)
    by_agent = known.fault is Fault.AGENT or (reason == FailureReason.UNKNOWN and exit_code is not None)
    return RunOutcome(
        state=RunState.FAILED if by_agent else RunState.ERROR,
        message=message,
        error_code=reason,
        retryable=known.retryable and not by_agent,
        exit_code=exit_code,
    )
