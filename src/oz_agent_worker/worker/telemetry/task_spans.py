"""Traces from notices: one span a task, with an event for each step of its life."""

from collections.abc import Mapping
from typing import Final

from opentelemetry.trace import Span, Status, StatusCode, Tracer, format_trace_id

from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import (
    AgentStarted,
    CancelRequested,
    CleanupFailed,
    JobNamed,
    Notice,
    Notify,
    TaskAdopted,
    TaskAssigned,
    TaskClaimed,
    TaskEnded,
    TaskRejected,
    TaskReleased,
    TraceBegan,
    WorkStarted,
)

__all__ = ["SPAN_NAME", "TaskSpans"]

SPAN_NAME: Final = "oz_worker.task"

#: Notices that are an event of the span, and nothing else.
_EVENTS: Final[Mapping[type, str]] = {
    TaskClaimed: "task.claimed",
    WorkStarted: "backend.started",
    AgentStarted: "task.started",
    CancelRequested: "task.cancellation_requested",
    CleanupFailed: "cleanup.failed",
}
_ENDS: Final = {
    TaskResult.SUCCEEDED: "task.completed",
    TaskResult.FAILED: "task.failed",
    TaskResult.CANCELLED: "task.cancelled",
    TaskResult.DISPATCHED: "task.dispatched",
}


class TaskSpans:
    """A listener. A span begins with the assignment, and ends when the task is out of the worker's hands.

    ``notify`` hears which trace an execution has. Spans hold IDs, results and failure
    reasons, and no text of a task.
    """

    def __init__(self, tracer: Tracer, notify: Notify) -> None:
        self._tracer = tracer
        self._notify = notify
        self._spans: dict[ExecutionKey, Span] = {}

    def __call__(self, notice: Notice) -> None:
        """Write down what a notice says."""
        match notice:
            case TaskAssigned(key):
                self._begin(key, "task.assigned")
            case TaskAdopted(key):
                self._begin(key, "task.taken_over")
            case TaskRejected(key, reason):
                self._rejected(key, reason)
            case JobNamed(key, job):
                if span := self._spans.get(key):
                    span.set_attribute("k8s.job.name", job)
            case TaskEnded(key, outcome):
                self._ended(key, outcome)
            case TaskReleased(key):
                self._end(key)
            case TaskClaimed() | WorkStarted() | AgentStarted() | CancelRequested() | CleanupFailed():
                if span := self._spans.get(notice.key):
                    span.add_event(_EVENTS[type(notice)])
            case _:
                pass

    def close(self) -> None:
        """End the spans of what is left running, so that they are exported."""
        for key in list(self._spans):
            self._spans[key].set_attribute("oz.left_running", True)
            self._end(key)

    def _begin(self, key: ExecutionKey, event: str) -> None:
        attributes = {"oz.task_id": key.task_id, "oz.execution_id": key.execution_id}
        span = self._spans[key] = self._tracer.start_span(SPAN_NAME, attributes=attributes)
        span.add_event(event)
        self._notify(TraceBegan(key, format_trace_id(span.get_span_context().trace_id)))

    def _rejected(self, key: ExecutionKey, reason: str) -> None:
        if key not in self._spans:
            self._begin(key, "task.assigned")
        self._spans[key].add_event("task.rejected", {"reason": reason})
        self._end(key)

    def _ended(self, key: ExecutionKey, outcome: Outcome) -> None:
        span = self._spans.get(key)
        if span is None:
            return
        span.set_attribute("oz.result", outcome.result.value)
        event: dict[str, str | int] = {}
        if outcome.exit_code is not None:
            event["exit_code"] = outcome.exit_code
        if outcome.result is TaskResult.FAILED:
            reason = outcome.reason.value if outcome.reason else "unknown"
            event |= {"reason": reason, "phase": outcome.phase.value}
            span.set_status(Status(StatusCode.ERROR, reason))
        span.add_event(_ENDS[outcome.result], event)

    def _end(self, key: ExecutionKey) -> None:
        if span := self._spans.pop(key, None):
            span.end()
