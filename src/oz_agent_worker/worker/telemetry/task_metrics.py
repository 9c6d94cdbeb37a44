"""Metrics from notices: the life of each task, the connection, and requests to the API server."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, TaskResult
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import (
    AgentStarted,
    CleanupFailed,
    Connected,
    Disconnected,
    Notice,
    Reconnecting,
    RequestAnswered,
    TaskAdopted,
    TaskAssigned,
    TaskClaimed,
    TaskEnded,
    TaskRejected,
    TaskReleased,
    WatchRestarted,
    WorkStarted,
)

from .instruments import Instruments

__all__ = ["TaskMetrics"]

_NO_ANSWER: Final = 0


@dataclass(slots=True)
class _Task:
    """``assigned`` and ``started`` in monotonic seconds; unset where they were not seen.

    ``ended``: its outcome was there to be known before this worker had the task, and is not counted.
    """

    phase: str
    created_at: str | None = None
    assigned: float | None = None
    started: float | None = None
    active: bool = True
    ended: bool = False


class TaskMetrics:
    """A listener. It keeps the few times of each task in hand that its histograms need."""

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
        self._on: Mapping[type, Callable[[Any], None]] = {
            TaskAssigned: self._assigned,
            TaskAdopted: self._taken_over,
            TaskRejected: self._rejected,
            TaskClaimed: lambda notice: self._count("oz_worker_tasks_claimed_total"),
            WorkStarted: self._stands,
            AgentStarted: self._started,
            TaskEnded: self._ended,
            CleanupFailed: lambda notice: self._failure(FailurePhase.CLEANUP, FailureReason.CLEANUP),
            TaskReleased: self._left,
            Connected: lambda notice: self._instruments.set("oz_worker_connected", 1),
            Disconnected: lambda notice: self._instruments.set("oz_worker_connected", 0),
            Reconnecting: lambda notice: self._count(
                "oz_worker_websocket_reconnects_total", reason=notice.reason
            ),
            RequestAnswered: self._request,
            WatchRestarted: lambda notice: self._count(
                "oz_worker_kubernetes_watch_restarts_total", resource=notice.resource, reason=notice.reason
            ),
        }

    def __call__(self, notice: Notice) -> None:
        """Measure what a notice says."""
        if (measure := self._on.get(type(notice))) is not None:
            measure(notice)

    # ------------------------------------------------------------------------ one task

    def _assigned(self, notice: TaskAssigned) -> None:
        self._open(notice.key, _Task("creating", notice.created_at, self._monotonic()))

    def _taken_over(self, notice: TaskAdopted) -> None:
        self._count("oz_worker_tasks_taken_over_total")
        self._open(notice.key, _Task("pending", ended=notice.ended))

    def _open(self, key: ExecutionKey, task: _Task) -> None:
        self._tasks[key] = task
        self._instruments.add("oz_worker_tasks_active", 1)
        self._in_phase(task.phase, 1)

    def _rejected(self, notice: TaskRejected) -> None:
        self._count("oz_worker_tasks_rejected_total", reason=notice.reason)
        self._left(notice)

    def _stands(self, notice: WorkStarted) -> None:
        task = self._tasks.get(notice.key)
        if task is not None and task.phase == "creating":
            self._move(task, "pending")

    def _started(self, notice: AgentStarted) -> None:
        task = self._tasks.get(notice.key)
        if task is None or task.phase not in ("creating", "pending"):
            return
        self._move(task, "running")
        if task.assigned is None:
            return
        task.started = self._monotonic()
        created = _timestamp(task.created_at)
        since = "assigned" if created is None else "created"
        waited = task.started - task.assigned if created is None else self._wall() - created
        self._record("oz_worker_task_queue_to_start_seconds", max(0.0, waited), since=since)

    def _ended(self, notice: TaskEnded) -> None:
        now, result = self._monotonic(), notice.outcome.result.value
        task = self._tasks.get(notice.key)
        if task is None or not task.ended:
            self._outcome(notice.outcome)
        if task is None:
            return
        if task.assigned is not None:
            self._record("oz_worker_task_duration_seconds", now - task.assigned, result=result)
        if task.started is not None:
            self._record("oz_worker_task_start_to_end_seconds", now - task.started, result=result)
        self._move(task, "finishing")
        self._give_back_slot(task)

    def _outcome(self, outcome: Outcome) -> None:
        self._count("oz_worker_tasks_completed_total", result=outcome.result.value)
        if outcome.result is TaskResult.FAILED:
            self._failure(outcome.phase, outcome.reason or FailureReason.UNKNOWN)

    def _left(self, notice: TaskReleased | TaskRejected) -> None:
        task = self._tasks.pop(notice.key, None)
        if task is not None:
            self._in_phase(task.phase, -1)
            self._give_back_slot(task)

    def _give_back_slot(self, task: _Task) -> None:
        if task.active:
            task.active = False
            self._instruments.add("oz_worker_tasks_active", -1)

    def _move(self, task: _Task, phase: str) -> None:
        self._in_phase(task.phase, -1)
        task.phase = phase
        self._in_phase(phase, 1)

    # ---------------------------------------------------------------------------------

    def _request(self, notice: RequestAnswered) -> None:
        asked = {"verb": notice.verb, "resource": notice.resource}
        code = "none" if notice.code == _NO_ANSWER else str(notice.code)
        self._count("oz_worker_kubernetes_requests_total", **asked, code=code)
        self._record("oz_worker_kubernetes_request_duration_seconds", notice.seconds, **asked)

    def _failure(self, phase: FailurePhase, reason: FailureReason) -> None:
        self._count("oz_worker_task_failures_total", phase=phase.value, reason=reason.value)

    def _in_phase(self, phase: str, change: int) -> None:
        self._instruments.add("oz_worker_tasks_by_phase", change, phase=phase)

    def _count(self, name: str, **labels: str) -> None:
        self._instruments.add(name, 1, **labels)

    def _record(self, name: str, value: float, **labels: str) -> None:
        self._instruments.record(name, value, **labels)


def _timestamp(text: str | None) -> float | None:
    """Read an RFC 3339 time, UTC where it names no zone; ``None`` where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
