"""Traces from events: one span a task, with an event for each step of its life."""

from typing import Final

from opentelemetry.trace import Span, Status, StatusCode, Tracer, format_trace_id

from oz_agent_worker.protocol.outcome import Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import EventKind, Notify, TaskEvent, WorkerEvent

__all__ = ["SPAN_NAME", "TaskSpans"]

SPAN_NAME: Final = "oz_worker.task"

_ENDS: Final = {
    TaskResult.SUCCEEDED: "task.completed",
    TaskResult.FAILED: "task.failed",
    TaskResult.CANCELLED: "task.cancelled",
    TaskResult.DISPATCHED: "task.dispatched",
}


class TaskSpans:
    """Listens to events. A span begins with the assignment and ends when the worker releases the task.

    ``notify`` hears which trace an accepted or adopted execution has. Spans hold IDs, results and failure
    reasons, and no text of a task.
    """

    def __init__(self, tracer: Tracer, notify: Notify) -> None:
        self._tracer = tracer
        self._notify = notify
        self._spans: dict[ExecutionKey, Span] = {}

    def __call__(self, event: WorkerEvent) -> None:
        """Record a task's event in its span."""
        if not isinstance(event, TaskEvent):
            return
        kind, info = event.kind, event.kind.value
        if kind in (EventKind.ASSIGNED, EventKind.ADOPTED):
            trace_id = format_trace_id(self._start(event.key).get_span_context().trace_id)
            self._notify(TaskEvent(EventKind.TRACE_BEGAN, event.key, trace_id))
        elif kind is EventKind.REJECTED and event.key not in self._spans:
            # Without TRACE_BEGAN: no RELEASED follows, at which listeners forget the trace.
            self._start(event.key).add_event("task.assigned")
        span = self._spans.get(event.key)
        if span is None:
            return
        if info.span_event is not None:
            span.add_event(info.span_event, {info.label: event.detail} if info.label else None)
        if info.span_attribute is not None:
            span.set_attribute(info.span_attribute, event.detail)
        if event.outcome is not None:
            _record_outcome(span, event.outcome)
        if kind in (EventKind.REJECTED, EventKind.RELEASED):
            self._end(event.key)

    def close(self) -> None:
        """End the spans of the tasks that still run, so that they are exported."""
        for key in list(self._spans):
            self._spans[key].set_attribute("oz.left_running", True)
            self._end(key)

    def _start(self, key: ExecutionKey) -> Span:
        attributes = {"oz.task_id": key.task_id, "oz.execution_id": key.execution_id}
        span = self._spans[key] = self._tracer.start_span(SPAN_NAME, attributes=attributes)
        return span

    def _end(self, key: ExecutionKey) -> None:
        if span := self._spans.pop(key, None):
            span.end()


def _record_outcome(span: Span, outcome: Outcome) -> None:
    span.set_attribute("oz.result", outcome.result.value)
    attributes: dict[str, str | int] = {}
    if outcome.exit_code is not None:
        attributes["exit_code"] = outcome.exit_code
    if outcome.result is TaskResult.FAILED:
        reason = outcome.reason.value if outcome.reason else "unknown"
        attributes |= {"reason": reason, "phase": outcome.phase.value}
        span.set_status(Status(StatusCode.ERROR, reason))
    span.add_event(_ENDS[outcome.result], attributes)
