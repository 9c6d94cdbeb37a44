"""The executions in a worker's hands: each one's state, its output, and all of them as a table."""

import asyncio
from collections.abc import Callable, Iterator
from enum import Enum

from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.report import ExecutionKey

from .backends.base import Execution

__all__ = ["ActiveExecution", "Executions", "NotStarted", "TaskOutput"]


class NotStarted(Enum):
    """Why there is neither work nor an outcome."""

    HANDED_BACK = "it goes back to its queue"
    ELSEWHERE = "another worker has it, and reports it"


class ActiveExecution:
    """One execution in the worker's hands.

    ``ended`` tells whether its outcome is known: from then on it takes no slot.
    ``shutting_down``: it is the worker's own end that ends it.
    """

    __slots__ = ("claimed", "delivered", "ended", "execution", "key", "shutting_down", "stop_reason", "task")

    def __init__(self, key: ExecutionKey) -> None:
        self.key = key
        self.claimed = False
        self.ended = False
        self.delivered = asyncio.Event()
        self.execution: Execution | None = None
        self.stop_reason: str | None = None
        self.shutting_down = False
        self.task: asyncio.Task[None] | None = None


class Executions:
    """The executions in hand, by execution and by task; ``active`` of them take a slot."""

    def __init__(self) -> None:
        self.active = 0
        self._by_task: dict[str, dict[ExecutionKey, ActiveExecution]] = {}

    def __iter__(self) -> Iterator[ActiveExecution]:
        for runs in self._by_task.values():
            yield from runs.values()

    def get(self, key: ExecutionKey) -> ActiveExecution | None:
        """The run of an execution."""
        return self._by_task.get(key.task_id, {}).get(key)

    def of_task(self, task_id: str) -> list[ActiveExecution]:
        """The runs of all executions of a task."""
        return list(self._by_task.get(task_id, {}).values())

    def open(self, key: ExecutionKey) -> ActiveExecution:
        """Take an execution in hand, with a slot."""
        run = self._by_task.setdefault(key.task_id, {})[key] = ActiveExecution(key)
        self.active += 1
        return run

    def end(self, run: ActiveExecution) -> None:
        """Its outcome is known: its slot is free. Harmless when repeated."""
        if not run.ended:
            run.ended = True
            self.active -= 1

    def close(self, run: ActiveExecution) -> None:
        """Let go of an execution."""
        self.end(run)
        runs = self._by_task.get(run.key.task_id, {})
        runs.pop(run.key, None)
        if not runs:
            self._by_task.pop(run.key.task_id, None)


class TaskOutput:
    """Takes one execution's output on its way to the control plane (an ``OutputSink``).

    Nothing leaves before the claim, and nothing is taken after the end.
    """

    def __init__(self, key: ExecutionKey, logs: LogBuffers, wake: Callable[[], None]) -> None:
        self._key = key
        self._logs = logs
        self._wake = wake
        self._claimed = False
        self._ended = False

    @property
    def wanted(self) -> bool | None:
        """Whether the control plane asked for output; ``None`` before the first connection."""
        return self._logs.wanted

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if not self._ended:
            self._logs.write(self._key, chunk, held_back=not self._claimed)
            self._wake()

    def claimed(self) -> None:
        """The claim is on its way: output may follow it."""
        self._claimed = True
        self.write(b"")

    def end(self) -> None:
        """All output was written."""
        self._logs.write(self._key, b"", final=True)
        self._ended = True
