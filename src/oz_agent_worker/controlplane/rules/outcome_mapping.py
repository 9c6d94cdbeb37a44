"""From a worker's terminal report to the state in which a run ends.

``FAILED`` says that the agent, or what it was asked to do, failed: the user's to mend.
``ERROR`` says that what runs the agent failed: the operator's to mend, and mostly
worth another try.
"""

from typing import Final

from oz_agent_worker.protocol.frames import TaskCompleted, TaskFailed

from .messages import storable
from .run_states import RunOutcome, RunState

__all__ = ["outcome_of"]

_UNKNOWN: Final = "unknown"
_CANCELLED: Final = "task_cancelled"
_LONGEST_REASON: Final = 64
_INT32: Final = 2**31 - 1

#: Reasons for which the agent or its set-up answers.
_AGENT_REASONS: Final = frozenset(
    {
        "active_deadline",
        "agent_invocation",
        "container_exit",
        "container_oom",
        "setup_command",
        "task_timeout",
        "teardown_command",
    }
)
#: Reasons of the infrastructure that the same run would meet again.
_LASTING_REASONS: Final = frozenset({"invalid_image"})


def outcome_of(report: TaskCompleted | TaskFailed) -> RunOutcome:
    """Decide the terminal state that a report means.

    A reason that is not known, or none, is judged by the exit code: a program that
    ran and failed is the agent's failure, anything else the infrastructure's.
    """
    message = storable(report.message)
    if report.task_state == RunState.CANCELLED:
        return RunOutcome(state=RunState.CANCELLED, message=message)
    if isinstance(report, TaskCompleted):
        return RunOutcome(state=RunState.SUCCEEDED, message=message, exit_code=0)
    reason = storable(report.failure_reason or _UNKNOWN, _LONGEST_REASON)
    exit_code = report.exit_code if report.exit_code and abs(report.exit_code) <= _INT32 else None
    if reason == _CANCELLED:
        return RunOutcome(state=RunState.CANCELLED, message=message, exit_code=exit_code)
    by_agent = reason in _AGENT_REASONS or (reason == _UNKNOWN and exit_code is not None)
    return RunOutcome(
        state=RunState.FAILED if by_agent else RunState.ERROR,
        message=message,
        error_code=reason,
        retryable=not by_agent and reason not in _LASTING_REASONS,
        exit_code=exit_code,
    )
