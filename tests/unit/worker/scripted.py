"""A backend whose every step a test decides, and the control plane's end of an outbox."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from oz_agent_worker.protocol.assignment import Assignment
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import Assigned, CancellationRequested, Delivered
from oz_agent_worker.worker.backends.base import AdoptableExecution, NoOutput, OutputSink
from oz_agent_worker.worker.events import WatchStatus, WorkerEvent
from oz_agent_worker.worker.task_spec import TaskSettings, TaskSpec
from oz_agent_worker.worker.worker import Worker, WorkerSettings

__all__ = ["Bench", "ScriptedBackend", "ScriptedExecution", "Step", "assignment", "settle"]


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


class Step:
    """Something that ends when, and as, the test says; at once where ``open``."""

    def __init__(self, *, open: bool = False, error: Exception | None = None) -> None:  # noqa: A002
        self._done = asyncio.Event()
        self._error = error
        if open or error:
            self._done.set()

    def end(self, error: Exception | None = None) -> None:
        self._error = error
        self._done.set()

    async def __call__(self) -> None:
        await self._done.wait()
        if self._error is not None:
            raise self._error


@dataclass
class ScriptedExecution:
    """``ended`` holds the outcome; ``on_stop`` is the outcome that a stop brings about."""

    output: OutputSink
    on_stop: Outcome | None = None
    ended: asyncio.Future[Outcome] = field(default_factory=asyncio.Future)
    stops: list[str] = field(default_factory=list)
    stop_step: Step = field(default_factory=lambda: Step(open=True))
    releases: list[Outcome] = field(default_factory=list)
    release_step: Step = field(default_factory=lambda: Step(open=True))

    async def wait(self) -> Outcome:
        return await asyncio.shield(self.ended)

    async def stop(self, reason: str) -> None:
        self.stops.append(reason)
        await self.stop_step()
        if self.on_stop is not None and not self.ended.done():
            self.ended.set_result(self.on_stop)

    async def release(self, outcome: Outcome) -> None:
        self.releases.append(outcome)
        await self.release_step()


class ScriptedBackend:
    """Launches at once unless a step says otherwise; holds no spec."""

    name = "scripted"
    instance: str | None = None

    def __init__(self, *, survives_worker: bool = True) -> None:
        self.survives_worker = survives_worker
        self.launched: list[ExecutionKey] = []
        self.executions: dict[str, ScriptedExecution] = {}
        self.launch_steps: dict[str, Step] = {}
        self.early_output = b""
        self.on_stop: Outcome | None = None
        self.stop_error: Exception | None = None
        self.cancelled: asyncio.Event | None = None

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        pass

    def watches(self) -> tuple[WatchStatus, ...]:
        return ()

    async def close(self) -> None:
        pass

    async def launch(
        self, spec: TaskSpec, output: OutputSink, cancelled: asyncio.Event | None = None
    ) -> ScriptedExecution:
        self.launched.append(spec.key)
        self.cancelled = cancelled
        if self.early_output:
            output.write(self.early_output)
        if step := self.launch_steps.get(spec.key.task_id):
            await step()
        execution = self.executions[spec.key.task_id] = ScriptedExecution(output, self.on_stop)
        if self.stop_error is not None:
            execution.stop_step = Step(error=self.stop_error)
        return execution


@dataclass
class Bench:
    """A worker on a scripted backend, with a recording connection."""

    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    capacity: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    logs: LogBuffers = field(default_factory=LogBuffers)
    rejections: list[tuple[ExecutionKey, str]] = field(default_factory=list)
    messages: list[str | None] = field(default_factory=list)
    wakes: int = 0
    worker_events: list[WorkerEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = WorkerSettings(
            worker_id="w",
            max_concurrent_tasks=self.capacity,
            tasks=TaskSettings(server_root_url="https://oz.test"),
        )
        self.worker = Worker(self.backend, settings, self.outbox, self.logs, self.worker_events.append)
        self.worker.connection = self

    def wake(self) -> None:
        self.wakes += 1

    def reject(self, key: ExecutionKey, reason: str, message: str | None = None) -> None:
        self.rejections.append((key, reason))
        self.messages.append(message)

    def assign(self, task_id: str, execution_id: str | None = None) -> None:
        self.worker.on_event(Assigned(assignment(task_id, execution_id)))

    def cancel(self, task_id: str, execution_id: str | None = None) -> None:
        self.worker.on_event(CancellationRequested(task_id, execution_id))

    def find(
        self, task_id: str, execution_id: str | None = None, *, ended: bool = False
    ) -> ScriptedExecution:
        """The backend finds an execution that an earlier worker left."""
        key = ExecutionKey(task_id, execution_id or task_id)
        execution = ScriptedExecution(NoOutput(), self.backend.on_stop)

        def follow(output: OutputSink) -> ScriptedExecution:
            execution.output = output
            return execution

        self.worker.adopt(AdoptableExecution(key, follow, ended))
        return execution

    def sent(self) -> list[Claim | TerminalReport]:
        """What the worker has to say since the last call; the peer has it, and has not answered."""
        return [item for _, item in self.outbox.due(barrier=1)]

    def deliver(self) -> None:
        """The peer answers for all that was sent."""
        reports = self.outbox.confirm_barrier(1, terminal_too=True, now=0.0)
        self.worker.on_event(Delivered(tuple(reports)))

    @property
    def closed(self) -> bool:
        """Whether the worker has let go of everything."""
        return self.worker.active == 0 and not self.worker.hello().executions and len(self.logs) == 0

    async def finish(self) -> None:
        """Deliver what is due, and see that nothing is left in the worker's hands."""
        self.sent()
        self.deliver()
        await settle()
        assert self.closed


def assignment(task_id: str, execution_id: str | None = None, **more: Any) -> Assignment:
    return Assignment(key=ExecutionKey(task_id, execution_id or task_id), agent_task_id=task_id, **more)
