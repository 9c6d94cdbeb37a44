"""The active executions of a worker: their state, their output, and a table of them."""

import asyncio
from collections.abc import Callable, Iterator

from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.report import ExecutionKey

from .backends.base import Execution

__all__ = ["ActiveExecution", "Executions", "TaskOutput"]


class ActiveExecution:
    """One execution that the worker holds.

    ``ended``: its outcome is known, and it takes no slot any more. ``shutting_down``: it is ended
    because the worker shuts down. ``launch_cancelled`` is there while its work is being launched.
    """

    __slots__ = (
        "claimed",
        "delivered",
        "ended",
        "execution",
        "key",
        "launch_cancelled",
        "shutting_down",
        "stop_reason",
        "task",
    )

    def __init__(self, key: ExecutionKey) -> None:
        self.key = key
        self.claimed = False
        self.ended = False
        self.delivered = asyncio.Event()
        self.execution: Execution | None = None
        self.launch_cancelled: asyncio.Event | None = None
        self.stop_reason: str | None = None
        self.shutting_down = False
        self.task: asyncio.Task[None] | None = None


class Executions:
    """The active executions, by key and by task; ``active`` of them take a slot."""

    def __init__(self) -> None:
        self.active = 0
        self._by_task: dict[str, dict[ExecutionKey, ActiveExecution]] = {}

    def __iter__(self) -> Iterator[ActiveExecution]:
        for runs in self._by_task.values():
            yield from runs.values()

    def get(self, key: ExecutionKey) -> ActiveExecution | None:
        """Return an execution, if it is active."""
        return self._by_task.get(key.task_id, {}).get(key)

    def of_task(self, task_id: str) -> list[ActiveExecution]:
        """Return all active executions of a task."""
        return list(self._by_task.get(task_id, {}).values())

    def open(self, key: ExecutionKey) -> ActiveExecution:
        """Add an execution, which takes a slot."""
        run = self._by_task.setdefault(key.task_id, {})[key] = ActiveExecution(key)
        self.active += 1
        return run

    def end(self, run: ActiveExecution) -> None:
        """Free the slot of an execution whose outcome is known. Idempotent."""
        if not run.ended:
            run.ended = True
            self.active -= 1

    def close(self, run: ActiveExecution) -> None:
        """Remove an execution."""
        self.end(run)
        runs = self._by_task.get(run.key.task_id, {})
        runs.pop(run.key, None)
        if not runs:
            self._by_task.pop(run.key.task_id, None)


class TaskOutput:
    """Passes one execution's output to the log buffers (an ``OutputSink``).

    Nothing is sent before the claim, and nothing is accepted after the end.
    """

    def __init__(self, key: ExecutionKey, logs: LogBuffers, wake: Callable[[], None]) -> None:
        self._key = key
        self._logs = logs
        self._wake = wake
        self._claimed = False
        self._ended = False

    @property
    def wanted(self) -> bool | None:
        """Whether the control plane wants output; ``None`` before the first connection."""
        return self._logs.wanted

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        if not self._ended:
            self._logs.write(self._key, chunk, held_back=not self._claimed)
            self._wake()

    def claimed(self) -> None:
        """Release the output: the claim is queued before it."""
        self._claimed = True
        self.write(b"")

    def end(self) -> None:
        """Note that no output follows."""
        self._logs.write(self._key, b"", final=True)
        self._ended = True
