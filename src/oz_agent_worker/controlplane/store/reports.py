"""What workers say about runs: claims, endings, and what they have in their hands."""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, select, update

from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord, decide_claim, decide_report
from oz_agent_worker.controlplane.rules.run_states import (
    TERMINAL,
    RunOutcome,
    RunState,
    cancellation_message,
    cancelled_by_worker,
)

from .runs import lock_run, move, owned_by, take_hold
from .tables import runs

__all__ = [
    "CancelOutcome",
    "Cancellation",
    "ClaimResult",
    "ReportResult",
    "cancel",
    "claim",
    "finish",
    "pending_cancellations",
]

_RUNNING = (RunState.CLAIMED, RunState.INPROGRESS)


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of a claim; ``cancel``: whoever claims must be told to stop.

    ``ended``: the run is over.
    """

    accepted: bool
    why: str
    cancel: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What became of a terminal report; ``state`` is None for an unknown run."""

    changed: bool
    state: RunState | None
    why: str


class CancelOutcome(Enum):
    """What became of a user's wish to cancel."""

    DONE = "done"
    """It was in the queue, and is cancelled."""
    REQUESTED = "requested"
    """A worker has it, and must be told."""
    NOT_FOUND = "not found"
    ENDED = "ended"
    PENDING = "pending"
    """It is on its way to a worker, until that answers or the lease ends."""


def claim(
    connection: Connection,
    run_id: str,
    execution_id: str | None,
    peer: Peer,
    now: int,
    *,
    elsewhere: bool = False,
) -> ClaimResult:
    """Record that a worker has a run in its hands. ``elsewhere``: another open connection has it.

    A claim that is refused asks for a cancellation, but that of an unknown run: which
    control plane that belongs to is not known here.
    """
    run = lock_run(connection, run_id)
    if run is None:
        return ClaimResult(accepted=False, why="no such run")
    decision = decide_claim(run, execution_id, peer, elsewhere=elsewhere)
    if not decision.accepted:
        return ClaimResult(accepted=False, why=decision.why, cancel=True, ended=run.state in TERMINAL)
    if run.state in _RUNNING:
        take_hold(connection, run, peer)
        return ClaimResult(accepted=True, why="again", cancel=run.cancel_requested)
    move(connection, run, RunState.CLAIMED, now, **owned_by(peer), message=None)
    return ClaimResult(accepted=True, why="claimed")


def finish(
    connection: Connection,
    run_id: str,
    execution_id: str | None,
    peer: Peer,
    ending: RunOutcome,
    now: int,
    *,
    refused: bool = False,
) -> ReportResult:
    """Record a run's end by its owner's word. The first report wins, and any later one changes nothing.

    ``refused``: the claim of the connection that reports was.
    """
    run = lock_run(connection, run_id)
    if run is None:
        return ReportResult(changed=False, state=None, why="no such run")
    decision = decide_report(run, execution_id, peer, refused=refused)
    if not decision.accepted:
        return ReportResult(changed=False, state=run.state, why=decision.why)
    move(
        connection,
        run,
        ending.state,
        now,
        **owned_by(peer),
        message=_message(ending, run, peer),
        error_code=ending.error_code,
        retryable=ending.retryable,
        exit_code=ending.exit_code,
    )
    return ReportResult(changed=True, state=ending.state, why=decision.why)


def _message(ending: RunOutcome, run: RunRecord, peer: Peer) -> str | None:
    if ending.state is RunState.CANCELLED:
        return cancelled_by_worker(
            peer.worker_id, ending.message, asked=run.cancel_requested, asked_by=run.cancelled_by
        )
    return ending.message or None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of a wish to cancel; which worker is to be told, and of which execution."""

    outcome: CancelOutcome
    worker_id: str = ""
    execution_id: str = ""


def cancel(connection: Connection, run_id: str, now: int, by: str | None = None) -> Cancellation:
    """CancelOutcome a queued run; for a running one, store that its worker is to be told.

    ``by`` is the name of the API key that asks, where known; the first wish counts.
    """
    run = lock_run(connection, run_id)
    if run is None:
        return Cancellation(CancelOutcome.NOT_FOUND)
    if run.state in TERMINAL:
        return Cancellation(CancelOutcome.ENDED)
    if run.state is RunState.PENDING:
        return Cancellation(CancelOutcome.PENDING)
    if run.state is RunState.QUEUED:
        message = cancellation_message(by, "no worker had it")
        move(connection, run, RunState.CANCELLED, now, message=message, cancelled_by=by)
        return Cancellation(CancelOutcome.DONE)
    if not run.cancel_requested:
        statement = update(runs).where(runs.c.id == run_id)
        connection.execute(statement.values(cancel_requested=True, cancelled_by=by, updated_at=now))
    return Cancellation(CancelOutcome.REQUESTED, run.worker_id or "", run.execution_id)


def pending_cancellations(connection: Connection, worker_id: str) -> list[str]:
    """Runs that a worker has and must be told to stop."""
    statement = select(runs.c.id).where(
        runs.c.worker_id == worker_id,
        runs.c.state.in_([s.value for s in _RUNNING]),
        runs.c.cancel_requested,
    )
    return list(connection.execute(statement.order_by(runs.c.seq)).scalars())
