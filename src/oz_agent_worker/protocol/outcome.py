"""How an execution ended, in one form for every backend."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .task_text import TaskText

__all__ = [
    "FailurePhase",
    "FailureReason",
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


class FailureReason(StrEnum):
    """Why an execution failed: ``failure_reason`` on the wire, and a metric label."""

    UNKNOWN = "unknown"
    TASK_TIMEOUT = "task_timeout"
    TASK_CANCELLED = "task_cancelled"
    GRACEFUL_SHUTDOWN = "graceful_shutdown"
    WORKER_LOST = "worker_lost"
    IMAGE_PULL = "image_pull"
    SIDECAR_PREP = "sidecar_prep"
    CONTAINER_CREATE = "container_create"
    CONTAINER_START = "container_start"
    CONTAINER_WAIT = "container_wait"
    CONTAINER_EXIT = "container_exit"
    CONTAINER_OOM = "container_oom"
    WORKSPACE_SETUP = "workspace_setup"
    SETUP_COMMAND = "setup_command"
    AGENT_INVOCATION = "agent_invocation"
    TEARDOWN_COMMAND = "teardown_command"
    DISPATCH_COMMAND = "dispatch_command"
    DISPATCH_TIMEOUT = "dispatch_timeout"
    CANCEL_COMMAND = "cancel_command"
    JOB_CREATE = "job_create"
    JOB_WATCH = "job_watch"
    JOB_FAILED = "job_failed"
    EVICTED = "evicted"
    POD_PREEMPTED = "pod_preempted"
    NODE_LOST = "node_lost"
    POD_MISSING = "pod_missing"
    POD_WATCH = "pod_watch"
    UNSCHEDULABLE = "unschedulable"
    VOLUME_MOUNT = "volume_mount"
    INIT_CONTAINER = "init_container"
    INIT_STUCK = "init_stuck"
    INVALID_IMAGE = "invalid_image"
    ACTIVE_DEADLINE = "active_deadline"
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
