"""Claims and terminal reports of workers, and cancellations by users."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from oz_agent_worker.controlplane.rules.ownership import (
    ExecutionRef,
    Peer,
    RunRecord,
    decide_claim,
    decide_report,
)
from oz_agent_worker.controlplane.rules.run_states import (
    IN_FLIGHT,
    TERMINAL,
    RunOutcome,
    RunState,
    cancellation_message,
    cancelled_by_worker,
)

from .runs import change, end, lock_run, move, owned_by, set_holder
from .tables import runs

__all__ = [
    "ClaimResult",
    "ReportResult",
    "cancel",
    "claim",
    "finish",
    "is_cancellable",
    "pending_cancellations",
]

_RUNNING = (RunState.CLAIMED, RunState.INPROGRESS)


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The answer to a claim; ``cancel``: the worker must stop; ``ended``: the run has ended."""

    accepted: bool
    why: str
    cancel: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The effect of a terminal report; ``state`` is None for an unknown run."""

    changed: bool
    state: RunState | None
    why: str


def claim(
    connection: Connection, ref: ExecutionRef, peer: Peer, now: int, *, elsewhere: bool = False
) -> ClaimResult:
    """Record that a worker has a run. ``elsewhere``: another open connection has it.

    A worker whose claim is refused must stop. Only a claim of an unknown run has no effect: the
    run may belong to another control plane.
    """
    run = lock_run(connection, ref.run_id)
    if run is None:
        return ClaimResult(accepted=False, why="no such run")
    decision = decide_claim(run, ref.execution_id, peer, elsewhere=elsewhere)
    if not decision.accepted:
        return ClaimResult(accepted=False, why=decision.why, cancel=True, ended=run.state in TERMINAL)
    if run.state in _RUNNING:
        set_holder(connection, run, peer)
        return ClaimResult(accepted=True, why="again", cancel=run.cancel_requested)
    move(connection, run, RunState.CLAIMED, now, **owned_by(peer), message=None)
    return ClaimResult(accepted=True, why="claimed", cancel=run.cancel_requested)


def finish(
    connection: Connection,
    ref: ExecutionRef,
    peer: Peer,
    outcome: RunOutcome,
    now: int,
    *,
    refused: bool = False,
    elsewhere: bool = False,
) -> ReportResult:
    """Record the end of a run as its owner reports it. The first report counts; later ones change nothing.

    ``refused``: a claim of the connection that reports was refused; ``elsewhere``: another open
    connection has the run.
    """
    run = lock_run(connection, ref.run_id)
    if run is None:
        return ReportResult(changed=False, state=None, why="no such run")
    cancelled = outcome.state is RunState.CANCELLED
    decision = decide_report(
        run, ref.execution_id, peer, refused=refused, elsewhere=elsewhere, cancelled=cancelled
    )
    if not decision.accepted:
        return ReportResult(changed=False, state=run.state, why=decision.why)
    if cancelled:
        asked, by = run.cancel_requested, run.cancelled_by
        message = cancelled_by_worker(
            peer.worker_id, outcome.message, asked=asked, asked_by=by, stopped=peer.sent_hello
        )
        outcome = replace(outcome, message=message)
    end(connection, run, outcome, now, **owned_by(peer))
    return ReportResult(changed=True, state=outcome.state, why=decision.why)


def cancel(
    connection: Connection, run_id: str, now: int, lease_until: int, by: str | None = None
) -> RunRecord | None:
    """Cancel a run on request; returns it as it was before, None for an unknown run.

    A queued run is cancelled at once. For one in flight the request is stored, if it ``is_cancellable``:
    its worker must be asked to stop it. A public worker need not answer, so that its run waits until
    ``lease_until`` at most. Any other is left as it is. ``by`` is the name of the API key; the first
    request counts.
    """
    run = lock_run(connection, run_id)
    if run is not None and run.state is RunState.QUEUED:
        message = cancellation_message(by, "no worker had it")
        move(connection, run, RunState.CANCELLED, now, message=message, cancelled_by=by)
    elif run is not None and is_cancellable(run) and not run.cancel_requested:
        wait = {"away_since": now, "lease_until": min(run.lease_until or lease_until, lease_until)}
        values = {"cancel_requested": True, "cancelled_by": by} | (wait if run.is_public else {})
        change(connection, run, **values, updated_at=now)
    return run


def is_cancellable(run: RunRecord) -> bool:
    """Whether the worker of a run in flight can be asked to stop it.

    A public worker ignores that before it has claimed the run, and answers nothing.
    """
    pending = run.state is RunState.PENDING and run.owner is not None and run.owner.sent_hello
    return run.state in _RUNNING or pending


def pending_cancellations(connection: Connection, worker_id: str) -> list[str]:
    """Runs of a worker that it must be asked to stop."""
    statement = select(runs.c.id).where(
        runs.c.worker_id == worker_id,
        runs.c.state.in_([s.value for s in sorted(IN_FLIGHT)]),
        runs.c.cancel_requested,
    )
    return list(connection.execute(statement.order_by(runs.c.seq)).scalars())
