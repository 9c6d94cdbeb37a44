"""The worker: takes assignments, runs each on a backend, and reports how it ended.

An ``ActiveExecution`` is one execution from its assignment until its report is delivered and its
record removed. It takes one of the worker's slots until its outcome is known.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, Protocol

from oz_agent_worker import __version__
from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import Assignment, AssignmentError, TaskTooLargeError
from oz_agent_worker.protocol.failure_reasons import FailureReason, RejectionReason
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, TaskResult, cancelled, failed
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import (
    Assigned,
    AssignmentRefused,
    CancellationRequested,
    Delivered,
    Event,
    FrameIgnored,
)

from . import log_fields
from .backends.base import (
    SHUTDOWN,
    AdoptableExecution,
    Backend,
    Execution,
    LaunchError,
    OwnedByAnotherWorkerError,
    too_large,
)
from .events import EventKind, Notify, TaskEvent, ignore_event
from .executions import ActiveExecution, Executions, TaskOutput
from .task_spec import TaskSettings, build_task_spec

__all__ = ["FrameSender", "Worker", "WorkerSettings"]

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of a worker; ``max_concurrent_tasks`` 0 is unlimited."""

    worker_id: str
    max_concurrent_tasks: int
    tasks: TaskSettings


class FrameSender(Protocol):
    """The connection, as the worker uses it."""

    def wake(self) -> None:
        """Write what is due in the outbox and the logs."""

    def reject(self, key: ExecutionKey, reason: RejectionReason, message: str | None = None) -> None:
        """Hand a task back to the control plane; ``message`` says what happened."""


class Worker:
    """Runs what the control plane assigns.

    It is the ``ConnectionListener`` of its connection. ``connection`` is set before the first event.
    """

    connection: FrameSender

    def __init__(
        self,
        backend: Backend,
        settings: WorkerSettings,
        outbox: Outbox,
        logs: LogBuffers,
        notify: Notify = ignore_event,
    ) -> None:
        self._backend = backend
        self._notify = notify
        self._settings = settings
        self._outbox = outbox
        self._logs = logs
        self._runs = Executions()
        self._ignored = FaultLog(logger, "A frame of the control plane")
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._accepting = True

    @property
    def active(self) -> int:
        """How many executions take a slot."""
        return self._runs.active

    def hello(self) -> frames.WorkerHello:
        """Describe the worker, with the executions that it has claimed.

        Executions still launching are left out: listing one claims it.
        """
        return frames.WorkerHello(
            worker_id=self._settings.worker_id,
            version=__version__,
            backend=self._backend.name,
            instance=self._backend.instance,
            max_concurrent_tasks=self._settings.max_concurrent_tasks or None,
            executions=[run.key for run in self._runs if run.claimed] or None,
        )

    def adopt(self, found: AdoptableExecution) -> None:
        """Continue an execution of an earlier worker, whether or not there is a slot for it."""
        if self._runs.get(found.key) is not None:
            logger.debug("Task %s is already active here", found.key)
        elif self._accepting:
            logger.info("Task %s adopted", found.key)
            self._notify(TaskEvent(EventKind.ADOPTED, found.key, already_ended=found.ended))
            run = self._runs.open(found.key)
            self._claim(run)
            run.task = self._spawn(run, self._resume(run, found))

    # -------------------------------------------------------------------------- events

    def on_event(self, event: Event) -> None:
        """Act on what the control plane sent."""
        match event:
            case Assigned(assignment):
                self._assigned(assignment)
            case AssignmentRefused(key, why):
                if self._runs.get(key) is None:
                    self._notify(TaskEvent(EventKind.ASSIGNED, key))
                    run = self._runs.open(key)
                    run.task = self._spawn(run, self._settle(run, _unusable(why)))
            case CancellationRequested(task_id, execution_id):
                self._cancel(task_id, execution_id)
            case Delivered(reports):
                self._delivered(reports)
            case FrameIgnored(kind, size, why):
                self._ignored.occurred("is ignored", f"type {kind}, {size} bytes: {why}")

    def _assigned(self, assignment: Assignment) -> None:
        key = assignment.key
        existing = self._runs.get(key)
        if existing is not None and not existing.delivered.is_set():
            logger.info("Task %s is already active here: the second assignment is ignored", key)
        elif not self._accepting:
            self._reject(key, RejectionReason.SHUTTING_DOWN)
        elif existing is not None or self._has_undelivered_report(key.task_id):
            self._reject(key, RejectionReason.STILL_CLEANING_UP)
        elif 0 < self._settings.max_concurrent_tasks <= self._runs.active:
            self._reject(key, RejectionReason.AT_CAPACITY)
        else:
            self._notify(TaskEvent(EventKind.ASSIGNED, key, assignment.created_at or ""))
            logger.info("Task %s assigned", key)
            run = self._runs.open(key)
            run.task = self._spawn(run, self._carry_out(run, assignment))

    def _has_undelivered_report(self, task_id: str) -> bool:
        """Whether the report of an earlier execution of the task is still to come.

        The public protocol's frames name only the task, so that report would end the new execution.
        """
        return any(not run.delivered.is_set() for run in self._runs.of_task(task_id))

    def _reject(self, key: ExecutionKey, reason: RejectionReason, message: str | None = None) -> None:
        logger.info("Task %s rejected: %s", key, reason)
        self.connection.reject(key, reason, message)
        self._notify(TaskEvent(EventKind.REJECTED, key, reason.value))

    def _cancel(self, task_id: str, execution_id: str | None) -> None:
        running = (run for run in self._runs.of_task(task_id) if not run.ended)
        runs = [run for run in running if execution_id in (None, run.key.execution_id)]
        if not runs:
            key = ExecutionKey(task_id, execution_id or task_id)
            logger.info("Task %s is not active here: its cancellation is ignored", key)
        for run in runs:
            logger.info("Task %s: cancellation requested", run.key)
            self._notify(TaskEvent(EventKind.CANCEL_REQUESTED, run.key))
            self._stop(run, "cancellation requested")

    def _delivered(self, reports: tuple[TerminalReport, ...]) -> None:
        for report in reports:
            if (run := self._runs.get(report.key)) is not None:
                run.delivered.set()

    # ------------------------------------------------------------------- one execution

    def _spawn(self, run: ActiveExecution, steps: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.create_task(self._guard(run, steps), name=f"task-{run.key}")

    async def _guard(self, run: ActiveExecution, steps: Coroutine[None, None, None]) -> None:
        """Run the steps. On any error the task is reported and its slot freed."""
        log_fields.about(run.key)
        try:
            await steps
        except Exception as error:
            logger.exception("Task %s: unexpected error", run.key)
            if not run.ended:
                await self._settle(run, _unexpected(error))
        finally:
            self._runs.close(run)
            self._logs.forget(run.key)
            self._notify(TaskEvent(EventKind.RELEASED, run.key))

    async def _carry_out(self, run: ActiveExecution, assignment: Assignment) -> None:
        output = TaskOutput(run.key, self._logs, self.connection.wake)
        outcome = await self._launch(run, assignment, output)
        # With thousands of tasks in flight, their assignments must not stay in memory.
        del assignment
        if run.execution is not None:
            await self._follow(run, run.execution, output)
        elif outcome is not None:
            await self._settle(run, outcome)

    async def _launch(
        self, run: ActiveExecution, assignment: Assignment, output: TaskOutput
    ) -> Outcome | None:
        """Start the work and set ``run.execution``, or return the outcome of work that cannot start.

        Neither happens where another worker has the execution, or where it was handed back.
        """
        try:
            spec = build_task_spec(assignment, self._settings.tasks)
            run.launch_cancelled = asyncio.Event()
            if run.stop_reason is not None:
                run.launch_cancelled.set()
            run.execution = await self._backend.launch(spec, output, run.launch_cancelled)
        except TaskTooLargeError as error:
            return too_large(error)
        except AssignmentError as error:
            return _unusable(str(error))
        except OwnedByAnotherWorkerError as error:
            logger.info("Task %s is left to another worker: %s", run.key, error)
        except LaunchError as error:
            if run.stop_reason is not None and not run.shutting_down:
                return cancelled("Task was cancelled before it started")
            if error.outcome is not None:
                return error.outcome
            logger.warning("Task %s was not started: %s", run.key, error)
            self._reject(run.key, RejectionReason.BACKEND_UNAVAILABLE, str(error))
        finally:
            run.launch_cancelled = None
        return None

    async def _resume(self, run: ActiveExecution, found: AdoptableExecution) -> None:
        output = TaskOutput(run.key, self._logs, self.connection.wake)
        run.execution = found.follow(output)
        await self._follow(run, run.execution, output)

    async def _follow(self, run: ActiveExecution, execution: Execution, output: TaskOutput) -> None:
        """The work exists: claim it, wait for its end, report it, clean up."""
        self._notify(TaskEvent(EventKind.STARTED, run.key))
        self._claim(run)
        output.claimed()
        if run.stop_reason is not None:
            self._stop(run, run.stop_reason)
        try:
            outcome = await execution.wait()
        except Exception as error:
            logger.exception("Task %s: unexpected error", run.key)
            # It is reported as failed, so it must not continue.
            self._stop(run, "the worker lost track of it")
            outcome = _unexpected(error)
        if run.shutting_down and outcome.result is TaskResult.CANCELLED:
            outcome = failed(FailureReason.GRACEFUL_SHUTDOWN, "The worker was shut down while the task ran")
        output.end()
        await self._report(run, outcome)
        try:
            await execution.release(outcome)
        except Exception as error:  # noqa: BLE001  the task is reported: what it leaves must not fail it
            logger.warning("Task %s: cleaning up failed: %s", run.key, error)
            self._notify(TaskEvent(EventKind.CLEANUP_FAILED, run.key))

    def _stop(self, run: ActiveExecution, reason: str) -> None:
        """End the work, now or as soon as it exists."""
        run.stop_reason = run.stop_reason or reason
        if run.launch_cancelled is not None:
            run.launch_cancelled.set()
        if run.execution is not None:
            self._side_task(run.key, run.execution.stop(reason), f"stop-{run.key}")

    def _claim(self, run: ActiveExecution) -> None:
        if not run.claimed:
            run.claimed = True
            self._outbox.add(Claim(run.key))
            self.connection.wake()
            self._notify(TaskEvent(EventKind.CLAIMED, run.key))

    async def _settle(self, run: ActiveExecution, outcome: Outcome) -> None:
        """Claim and end a task whose work does not exist."""
        self._claim(run)
        await self._report(run, outcome)

    async def _report(self, run: ActiveExecution, outcome: Outcome) -> None:
        """Add the outcome to the outbox and return when it is delivered."""
        self._runs.end(run)
        level = logging.WARNING if outcome.result is TaskResult.FAILED else logging.INFO
        detail = f" ({outcome.reason.value}): {outcome.message}" if outcome.reason else ""
        logger.log(level, "Task %s %s%s", run.key, outcome.result.value, detail)
        self._outbox.add(TerminalReport(run.key, outcome))
        self._notify(TaskEvent(EventKind.ENDED, run.key, outcome=outcome))
        self.connection.wake()
        await run.delivered.wait()
        logger.debug("Task %s: the report is delivered", run.key)

    def _side_task(self, key: ExecutionKey, steps: Coroutine[None, None, None], name: str) -> None:
        async def watched() -> None:
            log_fields.about(key)
            try:
                await steps
            except Exception:
                logger.exception("%s failed", name)

        task = asyncio.create_task(watched(), name=name)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    # ------------------------------------------------------------------------ shutdown

    async def drain(self, grace: float) -> None:
        """Take no more tasks and deliver what is due, within ``grace`` seconds.

        Work that survives the worker continues, and another worker will report its outcome. Other
        work is ended and reported as a graceful shutdown.
        """
        self._accepting = False
        survives = self._backend.survives_worker
        running = [run for run in self._runs if not run.ended]
        if running:
            verb = "left running" if survives else "ended"
            logger.info("Shutting down: %d task(s) in flight are %s", len(running), verb)
        if not survives:
            for run in running:
                run.shutting_down = run.stop_reason is None
                self._stop(run, SHUTDOWN)
        due = [run.task for run in self._runs if run.task and (run.ended or not survives)]
        if due:
            await asyncio.wait(due, timeout=grace)
        if undelivered := self._outbox.unreported:
            logger.warning("Shutting down with %d report(s) undelivered", undelivered)
        await asyncio.sleep(0)  # a task that is cancelled before its first step never reaches its `finally`
        await cancel_and_wait(*(run.task for run in self._runs), *self._side_tasks)


def _unusable(why: str) -> Outcome:
    text = f"The assignment cannot be carried out: {why}"
    return failed(FailureReason.AGENT_INVOCATION, text, phase=FailurePhase.ASSIGNMENT)


def _unexpected(error: Exception) -> Outcome:
    return failed(FailureReason.UNKNOWN, f"The worker failed unexpectedly: {type(error).__name__}")
