"""What workers say about runs: claims, endings, and what they have in their hands."""

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, select, update

from oz_agent_worker.controlplane.rules.cancellation import cancelled_by_worker, cancelled_sentence
from oz_agent_worker.controlplane.rules.outcome_mapping import Ending
from oz_agent_worker.controlplane.rules.ownership import rule_claim, rule_report
from oz_agent_worker.controlplane.rules.peer import Peer
from oz_agent_worker.controlplane.rules.run_record import Head
from oz_agent_worker.controlplane.rules.run_states import TERMINAL, RunState

from .runs import head, move, owned_by, take_hold
from .tables import runs

__all__ = ["Cancel", "Cancellation", "Claim", "Finish", "cancel", "claim", "finish", "pending_cancellations"]

_RUNNING = (RunState.CLAIMED, RunState.INPROGRESS)


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of a claim; ``cancel``: whoever claims must be told to stop.

    ``ended``: the run is over.
    """

    accepted: bool
    why: str
    cancel: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What became of a terminal report; ``state`` is None for an unknown run."""

    changed: bool
    state: RunState | None
    why: str


class Cancel(Enum):
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
) -> Claim:
    """Record that a worker has a run in its hands. ``elsewhere``: another open connection has it.

    A claim that is refused asks for a cancellation, but that of an unknown run: which
    control plane that belongs to is not known here.
    """
    run = head(connection, run_id)
    if run is None:
        return Claim(accepted=False, why="no such run")
    ruling = rule_claim(run, execution_id, peer, elsewhere=elsewhere)
    if not ruling.accepted:
        return Claim(accepted=False, why=ruling.why, cancel=True, ended=run.state in TERMINAL)
    if run.state in _RUNNING:
        take_hold(connection, run, peer)
        return Claim(accepted=True, why="again", cancel=run.cancel_requested)
    move(connection, run, RunState.CLAIMED, now, **owned_by(peer), message=None)
    return Claim(accepted=True, why="claimed")


def finish(
    connection: Connection,
    run_id: str,
    execution_id: str | None,
    peer: Peer,
    ending: Ending,
    now: int,
    *,
    refused: bool = False,
) -> Finish:
    """Record a run's end by its owner's word. The first report wins, and any later one changes nothing.

    ``refused``: the claim of the connection that reports was.
    """
    run = head(connection, run_id)
    if run is None:
        return Finish(changed=False, state=None, why="no such run")
    ruling = rule_report(run, execution_id, peer, refused=refused)
    if not ruling.accepted:
        return Finish(changed=False, state=run.state, why=ruling.why)
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
    return Finish(changed=True, state=ending.state, why=ruling.why)


def _message(ending: Ending, run: Head, peer: Peer) -> str | None:
    if ending.state is RunState.CANCELLED:
        return cancelled_by_worker(
            peer.worker_id, ending.message, asked=run.cancel_requested, asked_by=run.cancelled_by
        )
    return ending.message or None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of a wish to cancel; which worker is to be told, and of which execution."""

    outcome: Cancel
    worker_id: str = ""
    execution_id: str = ""


def cancel(connection: Connection, run_id: str, now: int, by: str | None = None) -> Cancellation:
    """Cancel a queued run; for a running one, store that its worker is to be told.

    ``by`` is the name of the API key that asks, where known; the first wish counts.
    """
    run = head(connection, run_id)
    if run is None:
        return Cancellation(Cancel.NOT_FOUND)
    if run.state in TERMINAL:
        return Cancellation(Cancel.ENDED)
    if run.state is RunState.PENDING:
        return Cancellation(Cancel.PENDING)
    if run.state is RunState.QUEUED:
        message = cancelled_sentence(by, "no worker had it")
        move(connection, run, RunState.CANCELLED, now, message=message, cancelled_by=by)
        return Cancellation(Cancel.DONE)
    if not run.cancel_requested:
        statement = update(runs).where(runs.c.id == run_id)
        connection.execute(statement.values(cancel_requested=True, cancelled_by=by, updated_at=now))
    return Cancellation(Cancel.REQUESTED, run.worker_id or "", run.execution_id)


def pending_cancellations(connection: Connection, worker_id: str) -> list[str]:
    """Runs that a worker has and must be told to stop."""
    statement = select(runs.c.id).where(
        runs.c.worker_id == worker_id,
        runs.c.state.in_([s.value for s in _RUNNING]),
        runs.c.cancel_requested,
    )
    return list(connection.execute(statement.order_by(runs.c.seq)).scalars())
