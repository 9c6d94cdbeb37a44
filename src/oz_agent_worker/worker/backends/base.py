"""What the worker asks of a backend.

The life of an execution::

    execution = await backend.launch(spec, output)   # the work exists: claim it
    outcome   = await execution.wait()               # it has ended: report it
    await execution.release(outcome)                 # the report is delivered: clean up

Executions of an earlier worker are adopted and followed in the same way (``AdoptableExecution``).
The backend keeps the record that an execution was started and how it ended: from before anything
of the task runs until ``release``.

``wait`` never raises for what happens to the task: that is the outcome. It may be cancelled,
and the work then goes on. If a backend's work dies with the worker, ``survives_worker`` is
false, and the worker stops such tasks when it shuts down.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import TaskTooLargeError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, failed
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import WatchStatus
from oz_agent_worker.worker.task_spec import TaskSpec

__all__ = [
    "SHUTDOWN",
    "AdoptableExecution",
    "Backend",
    "Execution",
    "LaunchError",
    "NoOutput",
    "OutputSink",
    "OwnedByAnotherWorkerError",
    "environment_of",
    "too_large",
]

#: The reason for a ``stop`` without a cancellation: the worker shuts down, and its work with it.
#: Such a task ends as ``graceful_shutdown``.
SHUTDOWN: Final = "the worker shuts down"

#: The longest chunk that a backend hands to an output sink, in bytes.
MAX_OUTPUT_CHUNK: Final = 64 * 1024


class OutputSink(Protocol):
    """Takes a task's output, piece by piece, in order."""

    @property
    def wanted(self) -> bool | None:
        """Whether anybody listens; a backend that must fetch output asks before it does.

        ``None`` is not known yet: what is written is kept until it is known.
        """
        ...

    def write(self, chunk: bytes) -> None:
        """Take the next bytes (at most ``MAX_OUTPUT_CHUNK``); never blocks, never raises."""
        ...


class NoOutput:
    """An output sink that discards a task's output."""

    wanted = False

    def write(self, chunk: bytes) -> None:
        """Drop the bytes."""


def too_large(error: TaskTooLargeError) -> Outcome:
    """The outcome of a task that is too large: no other try helps."""
    text = f"The assignment cannot be carried out: {error}"
    return failed(FailureReason.TASK_TOO_LARGE, text, phase=FailurePhase.ASSIGNMENT)


class LaunchError(Exception):
    """The work was not started.

    ``outcome`` is set if the task is the cause, and has failed. If it is ``None``, the backend
    cannot be reached, and the task goes back to its queue.
    """

    def __init__(self, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class OwnedByAnotherWorkerError(LaunchError):
    """Another worker of this ID has the execution and reports it.

    The execution must not go back to the queue: it would run a second time.
    """


class Execution(Protocol):
    """One execution that a backend has started or adopted."""

    async def wait(self) -> Outcome:
        """Return how the work ended, after all output was written to the sink."""
        ...

    async def stop(self, reason: str) -> None:
        """End the work with all its descendants: with a signal first, by force after a grace.

        Returns when nothing of it runs any more; with a cluster, when the cluster has accepted
        the deletion. Idempotent; harmless after the end.
        """
        ...

    async def release(self, outcome: Outcome) -> None:
        """Remove what the execution left, as the settings say. Called once, after the report's delivery."""
        ...


@dataclass(frozen=True, slots=True)
class AdoptableExecution:
    """An execution of an earlier worker that this worker may adopt.

    ``follow`` adopts it and is called at most once; if the execution has ended, ``wait`` returns
    its outcome at once. An execution that is not followed is left alone. ``ended``: its record had
    the outcome when it was found, so an earlier worker may have reported it.
    """

    key: ExecutionKey
    follow: Callable[[OutputSink], Execution]
    ended: bool = False


class Backend(Protocol):
    """Runs executions. Started once, before the first task; closed after the last.

    ``instance`` distinguishes this worker from others with its ID. It is known once ``start`` has
    returned.
    """

    name: str
    survives_worker: bool

    @property
    def instance(self) -> str | None:
        """See the class."""
        ...

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Open what the backend needs and show that tasks can run.

        ``found`` is called with each execution that an earlier worker left: before this returns
        for those that this worker may adopt at once, later for those whose worker turns out to be
        gone. It does not block or raise.

        Raises:
            PreflightError: tasks cannot run; the text says why.
        """
        ...

    async def launch(
        self, spec: TaskSpec, output: OutputSink, cancelled: asyncio.Event | None = None
    ) -> Execution:
        """Start the work and return as soon as it exists.

        Launching an execution that exists already is harmless: it is adopted. When ``cancelled`` is
        set, this ends as soon as it is certain whether the work exists: it waits for nothing else, and
        tries nothing again.

        Raises:
            LaunchError: nothing was started.
        """
        ...

    def watches(self) -> Sequence[WatchStatus]:
        """The state of the backend's watches; empty before ``start`` has returned."""
        ...

    async def close(self) -> None:
        """Release every resource; work that survives the worker goes on."""
        ...


def environment_of(spec: TaskSpec, own: Mapping[str, str]) -> dict[str, Secret]:
    """The task's whole environment: the spec's variables, then the backend's own ``OZ_*`` ones."""
    return {**spec.environment, **{name: Secret(value) for name, value in own.items()}}
