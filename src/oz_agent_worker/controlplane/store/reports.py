"""What workers say about runs: claims, endings, and what they have in their hands."""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, select, update

from oz_agent_worker.controlplane.ending import Ending
from oz_agent_worker.controlplane.states import TERMINAL, RunState

from .runs import head, move
from .schema import runs

__all__ = ["Cancel", "Cancellation", "Claim", "Finish", "cancel", "claim", "finish", "pending_cancellations"]

_RUNNING = (RunState.CLAIMED, RunState.INPROGRESS)


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of a claim; ``cancel``: the worker must be told to stop the run."""

    accepted: bool
    why: str
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What became of a terminal report; ``state`` is None for an unknown run."""

    changed: bool
    state: RunState | None


class Cancel(Enum):
    """What became of a user's wish to cancel."""

    DONE = "done"
    """It was in the queue, and is cancelled."""
    REQUESTED = "requested"
    """A worker has it, and must be told."""
    NOT_FOUND = "not found"
    ENDED = "ended"
    PENDING = "pending"
    """It is on its way to a worker: try again in a moment."""


def claim(connection: Connection, run_id: str, execution_id: str | None, worker_id: str, now: int) -> Claim:
    """Record that a worker has a run in its hands."""
    run = head(connection, run_id)
    if run is None:
        return Claim(accepted=False, why="no such run")
    if execution_id not in (None, run.execution_id):
        return Claim(accepted=False, why="another execution")
    if run.state in TERMINAL:
        return Claim(accepted=False, why=f"already {run.state}", cancel=run.state is RunState.CANCELLED)
    if run.state in _RUNNING:
        if run.worker_id != worker_id:
            return Claim(accepted=False, why=f"worker {run.worker_id} has it")
        return Claim(accepted=True, why="again", cancel=run.cancel_requested)
    move(connection, run, RunState.CLAIMED, now, worker_id=worker_id, message=None)
    return Claim(accepted=True, why="claimed")


def finish(
    connection: Connection, run_id: str, execution_id: str | None, worker_id: str, ending: Ending, now: int
) -> Finish:
    """Record a run's end. The first report wins, and any later one changes nothing."""
    run = head(connection, run_id)
    if run is None:
        return Finish(changed=False, state=None)
    if run.state in TERMINAL or execution_id not in (None, run.execution_id):
        return Finish(changed=False, state=run.state)
    move(
        connection,
        run,
        ending.state,
        now,
        worker_id=worker_id,
        message=ending.message or None,
        error_code=ending.error_code,
        retryable=ending.retryable,
        exit_code=ending.exit_code,
    )
    return Finish(changed=True, state=ending.state)


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of a wish to cancel; ``worker_id`` names the worker to be told."""

    outcome: Cancel
    worker_id: str = ""


def cancel(connection: Connection, run_id: str, now: int) -> Cancellation:
    """Cancel a queued run; for a running one, store that its worker is to be told."""
    run = head(connection, run_id)
    if run is None:
        return Cancellation(Cancel.NOT_FOUND)
    if run.state in TERMINAL:
        return Cancellation(Cancel.ENDED)
    if run.state is RunState.PENDING:
        return Cancellation(Cancel.PENDING)
    if run.state is RunState.QUEUED:
        move(connection, run, RunState.CANCELLED, now, message="Cancelled before a worker took it.")
        return Cancellation(Cancel.DONE)
    if not run.cancel_requested:
        statement = update(runs).where(runs.c.id == run_id)
        connection.execute(statement.values(cancel_requested=True, updated_at=now))
    return Cancellation(Cancel.REQUESTED, run.worker_id or "")


def pending_cancellations(connection: Connection, worker_id: str) -> list[str]:
    """Runs that a worker has and must be told to stop."""
    statement = select(runs.c.id).where(
        runs.c.worker_id == worker_id,
        runs.c.state.in_([s.value for s in _RUNNING]),
        runs.c.cancel_requested,
    )
    return list(connection.execute(statement.order_by(runs.c.seq)).scalars())
