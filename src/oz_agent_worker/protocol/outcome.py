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
    """Where in a task's life a failure arose; a metric label."""

    ASSIGNMENT = "assignment"
    BACKEND = "backend"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one execution.

    ``message`` is one sentence for a person, in the worker's words and those of the system that
    ran the task, so that it can be logged. ``words`` are the task's own, where there are any.
    ``exit_code`` is the agent's own, 128 plus the signal's number where a signal ended it, and
    ``None`` where none was seen.
    """

    result: TaskResult
    message: str
    reason: FailureReason | None = None
    exit_code: int | None = None
    phase: FailurePhase = FailurePhase.BACKEND
    words: TaskText | None = None

    def for_owner(self) -> str:
        """The message with the task's own words: for whoever the task belongs to, and for no log."""
        if self.words is None:
            return self.message
        return _cut(f"{self.message}; in its own words: {self.words.text}")


def succeeded(message: str = "Task completed successfully") -> Outcome:
    """The agent ended with exit code 0."""
    return Outcome(TaskResult.SUCCEEDED, message)


def cancelled(message: str = "Task was cancelled") -> Outcome:
    """The task was stopped because its cancellation was asked for."""
    return Outcome(TaskResult.CANCELLED, message)


def failed(
    reason: FailureReason,
    message: str,
    *,
    exit_code: int | None = None,
    phase: FailurePhase = FailurePhase.BACKEND,
    words: TaskText | None = None,
) -> Outcome:
    """The execution failed; ``message`` is cut to ``MAX_MESSAGE`` characters."""
    return Outcome(TaskResult.FAILED, _cut(message), reason, exit_code, phase, words)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def describe_exit_code(code: int) -> str:
    """Say an exit code for people: ``exit code 137 (SIGKILL)``."""
    if code > 128:
        try:
            return f"exit code {code} ({signal.Signals(code - 128).name})"
        except ValueError:
            pass
    return f"exit code {code}"
