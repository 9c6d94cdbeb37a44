"""How an execution ended, in one form for every backend."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .failure_reasons import FailureReason
from .task_text import TaskText

__all__ = [
    "FailurePhase",
    "Outcome",
    "TaskResult",
    "cancelled",
    "describe_exit_code",
    "failed",
    "succeeded",
]

#: The longest message that a report carries, in characters.
MAX_MESSAGE: Final = 8 * 1024


class TaskResult(StrEnum):
    """The four ends of an execution; also the ``result`` label of the metrics."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DISPATCHED = "dispatched"


class FailurePhase(StrEnum):
    """Where in a task's life a failure happened; a label of the metrics."""

    ASSIGNMENT = "assignment"
    BACKEND = "backend"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one execution.

    ``message`` is one sentence for a person, written by the worker and the system that ran the
    task, so that it can be logged. ``task_text`` is what the task itself wrote, if anything.
    ``exit_code`` is the agent's: 128 plus the signal's number where a signal ended it, ``None``
    where none was seen.
    """

    result: TaskResult
    message: str
    reason: FailureReason | None = None
    exit_code: int | None = None
    phase: FailurePhase = FailurePhase.BACKEND
    task_text: TaskText | None = None

    def for_owner(self) -> str:
        """Return the message with the task's own text: for the task's owner, never for a log."""
        if self.task_text is None:
            return self.message
        return _cut(f"{self.message}; in its own words: {self.task_text.reveal()}")


def succeeded(message: str = "Task completed successfully") -> Outcome:
    """Return the outcome of an agent that ended with exit code 0."""
    return Outcome(TaskResult.SUCCEEDED, message)


def cancelled(message: str = "Task was cancelled") -> Outcome:
    """Return the outcome of a task that was stopped on request."""
    return Outcome(TaskResult.CANCELLED, message)


def failed(
    reason: FailureReason,
    message: str,
    *,
    exit_code: int | None = None,
    phase: FailurePhase = FailurePhase.BACKEND,
    task_text: TaskText | None = None,
) -> Outcome:
    """Return the outcome of a failure; ``message`` is cut to ``MAX_MESSAGE`` characters."""
    return Outcome(TaskResult.FAILED, _cut(message), reason, exit_code, phase, task_text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def describe_exit_code(code: int) -> str:
    """Describe an exit code for people: ``exit code 137 (SIGKILL)``."""
    try:
        return f"exit code {code} ({signal.Signals(code - 128).name})"
    except ValueError:
        return f"exit code {code}"
