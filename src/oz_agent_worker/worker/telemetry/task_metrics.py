"""Metrics from events: the life of each task, the connection, and requests to the API server."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import (
    ConnectionChanged,
    EventKind,
    Reconnecting,
    RequestAnswered,
    TaskEvent,
    WatchRestarted,
    WorkerEvent,
)

from .instruments import Instruments

__all__ = ["TaskMetrics"]

_NO_ANSWER: Final = 0


@dataclass(slots=True)
class _Task:
    """``assigned`` and ``started`` in monotonic seconds; ``None`` where they were not seen.

    ``already_ended``: it had ended before this worker found it, so its outcome is not counted.
    """

    phase: str
    created_at: str = ""
    assigned: float | None = None
    started: float | None = None
    active: bool = True
    already_ended: bool = False


class TaskMetrics:
    """Listens to events. It keeps the times of each active task that its histograms need."""

    def __init__(
        self,
        instruments: Instruments,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._instruments = instruments
        self._monotonic = monotonic
        self._wall = wall
        self._tasks: dict[ExecutionKey, _Task] = {}
        self._steps: Mapping[EventKind, Callable[[TaskEvent], None]] = {
            EventKind.ASSIGNED: self._open,
            EventKind.ADOPTED: self._open,
            EventKind.REJECTED: self._close,
            EventKind.STARTED: self._work_started,
            EventKind.AGENT_STARTED: self._agent_started,
            EventKind.ENDED: self._ended,
            EventKind.CLEANUP_FAILED: lambda _: self._failure(FailurePhase.CLEANUP, FailureReason.CLEANUP),
            EventKind.RELEASED: self._close,
        }

    def __call__(self, event: WorkerEvent) -> None:
        """Measure an event."""
        match event:
            case TaskEvent():
                info = event.kind.value
                if info.counter is not None:
                    self._count(info.counter, **({info.label: event.detail} if info.label else {}))
                if (step := self._steps.get(event.kind)) is not None:
                    step(event)
            case RequestAnswered():
                self._request(event)
            case WatchRestarted(resource, reason):
                self._count("oz_worker_kubernetes_watch_restarts_total", resource=resource, reason=reason)
            case ConnectionChanged(connected):
                self._instruments.set("oz_worker_connected", int(connected))
            case Reconnecting(reason):
                self._count("oz_worker_websocket_reconnects_total", reason=reason)

    # ------------------------------------------------------------------------ one task

    def _open(self, event: TaskEvent) -> None:
        if event.kind is EventKind.ASSIGNED:
            task = _Task("creating", event.detail, self._monotonic())
        else:
            task = _Task("pending", already_ended=event.already_ended)
        self._tasks[event.key] = task
        self._instruments.add("oz_worker_tasks_active", 1)
        self._in_phase(task.phase, 1)

    def _work_started(self, event: TaskEvent) -> None:
        task = self._tasks.get(event.key)
        if task is not None and task.phase == "creating":
            self._move(task, "pending")

    def _agent_started(self, event: TaskEvent) -> None:
        task = self._tasks.get(event.key)
        if task is None or task.phase not in ("creating", "pending"):
            return
        self._move(task, "running")
        if task.assigned is None:
            return
        task.started = self._monotonic()
        created = _timestamp(task.created_at)
        since = "assigned" if created is None else "created"
        waited = task.started - task.assigned if created is None else self._wall() - created
        self._instruments.record("oz_worker_task_queue_to_start_seconds", max(0.0, waited), since=since)

    def _ended(self, event: TaskEvent) -> None:
        outcome, task = event.outcome, self._tasks.get(event.key)
        assert outcome is not None, "an ENDED event has an outcome"
        now, result = self._monotonic(), outcome.result.value
        if task is None or not task.already_ended:
            self._count("oz_worker_tasks_completed_total", result=result)
            if outcome.result is TaskResult.FAILED:
                self._failure(outcome.phase, outcome.reason or FailureReason.UNKNOWN)
        if task is None:
            return
        if task.assigned is not None:
            self._instruments.record("oz_worker_task_duration_seconds", now - task.assigned, result=result)
        if task.started is not None:
            self._instruments.record("oz_worker_task_start_to_end_seconds", now - task.started, result=result)
        self._move(task, "finishing")
        self._free_slot(task)

    def _close(self, event: TaskEvent) -> None:
        task = self._tasks.pop(event.key, None)
        if task is not None:
            self._in_phase(task.phase, -1)
            self._free_slot(task)

    def _free_slot(self, task: _Task) -> None:
        if task.active:
            task.active = False
            self._instruments.add("oz_worker_tasks_active", -1)

    def _move(self, task: _Task, phase: str) -> None:
        self._in_phase(task.phase, -1)
        task.phase = phase
        self._in_phase(phase, 1)

    # ---------------------------------------------------------------------------------

    def _request(self, event: RequestAnswered) -> None:
        asked = {"verb": event.verb, "resource": event.resource}
        code = "none" if event.code == _NO_ANSWER else str(event.code)
        self._count("oz_worker_kubernetes_requests_total", **asked, code=code)
        self._instruments.record("oz_worker_kubernetes_request_duration_seconds", event.seconds, **asked)

    def _failure(self, phase: FailurePhase, reason: FailureReason) -> None:
        self._count("oz_worker_task_failures_total", phase=phase.value, reason=reason.value)

    def _in_phase(self, phase: str, change: int) -> None:
        self._instruments.add("oz_worker_tasks_by_phase", change, phase=phase)

    def _count(self, name: str, **labels: str) -> None:
        self._instruments.add(name, 1, **labels)


def _timestamp(text: str) -> float | None:
    """Read an RFC 3339 time (UTC where it names no zone) as seconds since the epoch; else ``None``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
