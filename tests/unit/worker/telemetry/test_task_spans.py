"""Worker events become one span a task."""

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, TaskResult, cancelled, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.events import ConnectionChanged, EventKind, TaskEvent, WorkerEvent
from oz_agent_worker.worker.log_fields import LogFields
from oz_agent_worker.worker.telemetry.task_spans import TaskSpans

KEY = ExecutionKey("t", "e")


class Rig:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.emitted: list[WorkerEvent] = []
        self.spans = TaskSpans(provider.get_tracer("tests"), self.emitted.append)

    def notify(self, *worker_events: WorkerEvent) -> None:
        for worker_event in worker_events:
            self.spans(worker_event)

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


def names(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


def test_a_task_that_succeeds() -> None:
    rig = Rig()
    rig.notify(
        TaskEvent(EventKind.ASSIGNED, KEY),
        TaskEvent(EventKind.JOB_NAMED, KEY, "oz-1"),
        TaskEvent(EventKind.STARTED, KEY),
        TaskEvent(EventKind.CLAIMED, KEY),
        TaskEvent(EventKind.AGENT_STARTED, KEY),
    )
    rig.notify(
        ConnectionChanged(connected=True),
        TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()),
        TaskEvent(EventKind.CLEANUP_FAILED, KEY),
    )
    assert rig.exporter.get_finished_spans() == ()
    rig.notify(TaskEvent(EventKind.RELEASED, KEY), TaskEvent(EventKind.RELEASED, KEY))
    span = rig.span()
    assert span.name == "oz_worker.task"
    assert names(span) == [
        "task.assigned",
        "backend.started",
        "task.claimed",
        "task.started",
        "task.completed",
        "cleanup.failed",
    ]
    assert dict(span.attributes or {}) == {
        "oz.task_id": "t",
        "oz.execution_id": "e",
        "k8s.job.name": "oz-1",
        "oz.result": "succeeded",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.context is not None
    assert rig.emitted == [TaskEvent(EventKind.TRACE_BEGAN, KEY, f"{span.context.trace_id:032x}")]


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (cancelled(), "task.cancelled"),
        (Outcome(TaskResult.DISPATCHED, ""), "task.dispatched"),
        (
            failed(
                FailureReason.SETUP_COMMAND, "a text of the task", task_text=TaskText("a text of the task")
            ),
            "task.failed",
        ),
    ],
)
def test_other_ends(outcome: Outcome, event: str) -> None:
    rig = Rig()
    rig.notify(
        TaskEvent(EventKind.ASSIGNED, KEY),
        TaskEvent(EventKind.CANCEL_REQUESTED, KEY),
        TaskEvent(EventKind.ENDED, KEY, outcome=outcome),
        TaskEvent(EventKind.RELEASED, KEY),
    )
    assert names(rig.span()) == ["task.assigned", "task.cancellation_requested", event]
    assert "a text of the task" not in rig.span().to_json()


def test_a_failure_says_why_and_marks_the_span() -> None:
    rig = Rig()
    outcome = failed(FailureReason.CONTAINER_EXIT, "x", exit_code=42)
    rig.notify(
        TaskEvent(EventKind.ASSIGNED, KEY),
        TaskEvent(EventKind.ENDED, KEY, outcome=outcome),
        TaskEvent(EventKind.RELEASED, KEY),
    )
    span = rig.span()
    assert dict(span.events[-1].attributes or {}) == {
        "exit_code": 42,
        "reason": "container_exit",
        "phase": "backend",
    }
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "container_exit")


@pytest.mark.parametrize("before", [[], [TaskEvent(EventKind.ASSIGNED, KEY)]])
def test_a_task_that_is_handed_back_has_a_span(before: list[WorkerEvent]) -> None:
    rig = Rig()
    rig.notify(*before, TaskEvent(EventKind.REJECTED, KEY, "at_capacity"), TaskEvent(EventKind.RELEASED, KEY))
    assert names(rig.span()) == ["task.assigned", "task.rejected"]
    assert dict(rig.span().events[-1].attributes or {}) == {"reason": "at_capacity"}


def test_of_tasks_that_are_rejected_at_once_the_log_keeps_nothing() -> None:
    rig, fields = Rig(), LogFields()
    keys = [ExecutionKey("t", str(number)) for number in range(1000)]
    rig.notify(*(TaskEvent(EventKind.REJECTED, key, "at_capacity") for key in keys))
    for event in rig.emitted:
        fields(event)
    assert len(rig.exporter.get_finished_spans()) == len(keys)
    for key in keys:
        line = logging.LogRecord("x", logging.INFO, "x.py", 1, "%s", (key,), None)
        assert fields.of(line) == {"task": key.task_id, "execution": key.execution_id}


def test_what_is_left_running_is_exported_at_the_end() -> None:
    rig = Rig()
    rig.notify(TaskEvent(EventKind.ADOPTED, KEY), TaskEvent(EventKind.CLAIMED, KEY))
    rig.spans.close()
    assert names(rig.span()) == ["task.taken_over", "task.claimed"]
    assert (rig.span().attributes or {})["oz.left_running"] is True


def test_an_event_about_an_unknown_task_is_ignored() -> None:
    rig = Rig()
    rig.notify(
        TaskEvent(EventKind.CLAIMED, KEY),
        TaskEvent(EventKind.JOB_NAMED, KEY, "x"),
        TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()),
        TaskEvent(EventKind.RELEASED, KEY),
    )
    assert rig.exporter.get_finished_spans() == ()
