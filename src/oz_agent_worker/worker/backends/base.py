"""What the worker asks of a backend.

The life of an execution::

    execution = await backend.launch(spec, output)   # the work stands: claim it
    outcome   = await execution.wait()               # it ended: report it
    await execution.release(outcome)                 # the report is delivered: clean up

What an earlier worker left is found and followed the same way (see ``AdoptableExecution``). The record
of an execution, that it was started and how it ended, is the backend's: it stands before
anything of the task runs, and goes with ``release``.

``wait`` never raises for what happens to the task: that is the outcome. It is
cancellable, and a cancelled ``wait`` leaves the work as it is; a backend whose
work dies with the worker (``survives_worker`` false) says so, and the worker ends
such tasks at its own shutdown through ``stop``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.outcome import Outcome
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
]

#: The reason for a ``stop`` that no cancellation asked for: the worker ends, and its work with
#: it. A backend that keeps a record of the outcome keeps it as ``graceful_shutdown``.
SHUTDOWN: Final = "the worker shuts down"

#: The longest chunk that a backend hands to an output sink, in bytes.
MAX_OUTPUT_CHUNK: Final = 64 * 1024


class OutputSink(Protocol):
    """Takes a task's output, piece by piece, in order."""

    @property
    def wanted(self) -> bool | None:
        """Whether anyone listens: a backend that must fetch output asks first.

        ``None``: that is not known yet. What is written is kept until it is.
        """
        ...

    def write(self, chunk: bytes) -> None:
        """Take the next bytes (at most ``MAX_OUTPUT_CHUNK``); never blocks, never raises."""
        ...


class NoOutput:
    """An output sink for a task to which nobody listens."""

    wanted = False

    def write(self, chunk: bytes) -> None:
        """Drop the bytes."""


class LaunchError(Exception):
    """The work was not started.

    ``outcome`` is set where the cause lies in the task (it failed); where it is
    ``None`` the backend cannot be reached, and the task goes back to its queue.
    """

    def __init__(self, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class OwnedByAnotherWorkerError(LaunchError):
    """The execution stands in the hands of another worker of this ID, whose it is to report.

    It is not to be handed back: somebody else would run it a second time.
    """


class Execution(Protocol):
    """One execution in a backend's hands."""

    async def wait(self) -> Outcome:
        """Return how the work ended. All output was written to the sink before."""
        ...

    async def stop(self, reason: str) -> None:
        """End the work: the whole of it, with its descendants.

        Asks first and forces after a grace. Returns when nothing of it runs any more or,
        where a cluster does the ending, when the cluster has accepted to.
        Idempotent; harmless after the end.
        """
        ...

    async def release(self, outcome: Outcome) -> None:
        """Remove what the execution left, as the settings say. Called once, after delivery."""
        ...


@dataclass(frozen=True, slots=True)
class AdoptableExecution:
    """An execution of an earlier worker that stands and is this worker's to follow.

    ``follow`` takes it over and is called at most once; where the execution has ended, its
    ``wait`` says how. One that is not followed is left as it is. ``ended``: its record told
    the end already when it was found, so that an earlier worker may have known and told it.
    """

    key: ExecutionKey
    follow: Callable[[OutputSink], Execution]
    ended: bool = False


class Backend(Protocol):
    """Runs executions. Entered once, before the first task; left after the last.

    ``instance`` names this worker among those of its ID, to whoever looks at what it
    started. It is known once ``start`` has returned.
    """

    name: str
    survives_worker: bool

    @property
    def instance(self) -> str | None:
        """See the class."""
        ...

    async def start(self, found: Callable[[AdoptableExecution], None]) -> None:
        """Open what the backend needs and show that tasks can run.

        ``found`` is told of each execution that an earlier worker left: before this returns
        of those that are known to be its own to follow, later of those whose worker turns
        out to be gone. It does not block or raise.

        Raises:
            PreflightError: tasks could not run; the text is a diagnosis.
        """
        ...

    async def launch(self, spec: TaskSpec, output: OutputSink) -> Execution:
        """Start the work and return as soon as it stands.

        Starting an execution that stands already is harmless: it is adopted.

        Raises:
            LaunchError: nothing was started.
        """
        ...

    def watches(self) -> Sequence[WatchStatus]:
        """How the watches are that the backend lives by; empty before ``start`` has returned."""
        ...

    async def close(self) -> None:
        """Let go of every resource; work that survives the worker goes on."""
        ...


def environment_of(spec: TaskSpec, own: Mapping[str, str]) -> dict[str, Secret]:
    """The task's whole environment: the spec's, then the backend's own ``OZ_*`` variables."""
    return {**spec.environment, **{name: Secret(value) for name, value in own.items()}}
