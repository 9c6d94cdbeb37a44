"""The queue: what waits, what is handed out, what comes back, and when to look again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, or_, select, update

from oz_agent_worker.controlplane.rules.leases import Lease, extended_lease
from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord, decide_report
from oz_agent_worker.controlplane.rules.run_states import RunState, cancellation_message
from oz_agent_worker.controlplane.rules.scheduling import (
    OrphanedRun,
    QueuedRun,
    may_be_sent_again,
    requeue_delay,
)

from .in_list import padded
from .keys import drop_workload_tokens
from .runs import Run, change, get_all, lock_run, move, owner_values
from .tables import runs, workload_tokens

__all__ = [
    "Dispatch",
    "NextDeadlines",
    "Unclaimed",
    "assign",
    "extend_deadline",
    "next_deadlines",
    "put_back",
    "queued",
    "reject",
    "return_unclaimed",
    "send_again",
    "unclaimed",
    "withdraw",
]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A run that is about to be sent to ``peer``, and the hash of the token its agent will have."""

    run_id: str
    peer: Peer
    token_hash: str


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A run whose time to be claimed is over, and the worker that was sent it."""

    run_id: str
    worker_id: str | None
    resent: bool


@dataclass(frozen=True, slots=True)
class NextDeadlines:
    """When something falls due by itself: a claim, a lease, the end of a run's delay."""

    claim: int | None = None
    lease: int | None = None
    delay: int | None = None

    @property
    def next(self) -> int | None:
        """The first of them."""
        return min((t for t in (self.claim, self.lease, self.delay) if t is not None), default=None)


def next_deadlines(connection: Connection, now: int) -> NextDeadlines:
    """What falls due next, each from the end of an index."""
    claim = select(func.min(runs.c.claim_deadline)).where(runs.c.state == RunState.PENDING.value)
    lease = select(func.min(runs.c.lease_until)).where(runs.c.lease_until.is_not(None))
    delay = select(func.min(runs.c.not_before)).where(
        runs.c.state == RunState.QUEUED.value, runs.c.not_before > now
    )
    row = connection.execute(
        select(claim.scalar_subquery(), lease.scalar_subquery(), delay.scalar_subquery())
    ).one()
    return NextDeadlines(*row)


def queued(connection: Connection, now: int, worker_ids: Collection[str], limit: int) -> list[QueuedRun]:
    """The oldest runs that one of ``worker_ids`` may have at ``now``."""
    statement = (
        select(runs.c.id, runs.c.worker_host)
        .where(
            runs.c.state == RunState.QUEUED.value,
            runs.c.not_before <= now,
            or_(runs.c.worker_host.is_(None), runs.c.worker_host.in_(padded(worker_ids))),
        )
        .order_by(runs.c.seq)
        .limit(limit)
    )
    return [QueuedRun(row.id, row.worker_host) for row in connection.execute(statement)]


def assign(connection: Connection, dispatches: Sequence[Dispatch], now: int, deadline: int) -> list[Run]:
    """Move runs from the queue to their workers; those that are no longer queued stay out."""
    taken = []
    for dispatch in dispatches:
        run = lock_run(connection, dispatch.run_id)
        if run is None or run.state is not RunState.QUEUED:
            continue
        move(
            connection,
            run,
            RunState.PENDING,
            now,
            **owner_values(dispatch.peer),
            resent=False,
            claim_deadline=deadline,
            message=None,
        )
        _add_token(connection, dispatch, now)
        taken.append(run.id)
    return get_all(connection, taken)


def send_again(
    connection: Connection, dispatches: Sequence[Dispatch], now: int, deadline: int, *, grace: int
) -> list[Run]:
    """Give assignments that were not answered to other connections; runs that were meanwhile stay out.

    Their execution stays the same, and their lease goes on, since only an answer ends it;
    a worker that said hello has longer for that. See ``extended_lease``.
    """
    taken = []
    for dispatch in dispatches:
        run, peer = lock_run(connection, dispatch.run_id), dispatch.peer
        if run is None or run.owner is None or run.lease_until is None or run.away_since is None:
            continue
        if not may_be_sent_again(OrphanedRun(run.id, run.state, run.owner, overdue=True), peer):
            continue
        same = peer.instance is not None and peer == run.owner
        lease = Lease(run.away_since, run.lease_until)
        if peer.sent_hello:
            lease = extended_lease(lease, now, grace)
        change(
            connection,
            run,
            **owner_values(peer),
            resent=run.resent or not same,
            claim_deadline=deadline,
            lease_until=lease.until,
            updated_at=now,
        )
        _add_token(connection, dispatch, now)
        taken.append(run.id)
    return get_all(connection, taken)


def _add_token(connection: Connection, dispatch: Dispatch, now: int) -> None:
    # Tokens of earlier sendings stay good: whichever of them arrived may be the one that runs.
    token = {"token_hash": dispatch.token_hash, "run_id": dispatch.run_id, "created_at": now}
    connection.execute(insert(workload_tokens), token)


def unclaimed(connection: Connection, now: int) -> list[Unclaimed]:
    """The runs whose worker did not claim them in time, oldest first."""
    statement = select(runs.c.id, runs.c.worker_id, runs.c.resent).where(
        runs.c.state == RunState.PENDING.value, runs.c.claim_deadline <= now
    )
    return [Unclaimed(*row) for row in connection.execute(statement.order_by(runs.c.seq))]


def extend_deadline(
    connection: Connection, run_ids: Collection[str], now: int, deadline: int, lease_until: int
) -> None:
    """Wait on for runs that were not claimed in time, under a lease. One that runs goes on."""
    late = runs.c.id.in_(padded(run_ids)), runs.c.claim_deadline <= now
    pending = runs.c.state == RunState.PENDING.value
    connection.execute(
        update(runs)
        .where(*late, pending)
        .values(
            claim_deadline=deadline,
            lease_until=func.coalesce(runs.c.lease_until, lease_until),
            away_since=func.coalesce(runs.c.away_since, now),
        )
    )


def return_unclaimed(connection: Connection, run_ids: Collection[str], now: int) -> list[Unclaimed]:
    """Put runs that were not claimed in time back into the queue; returns those that still were not."""
    returned = []
    for run_id in run_ids:
        run = lock_run(connection, run_id)
        if run is None or run.state is not RunState.PENDING:
            continue
        put_back(connection, run, now, f"Worker {run.worker_id} did not claim the run in time.")
        returned.append(Unclaimed(run_id, run.worker_id, run.resent))
    return returned


def reject(
    connection: Connection,
    run_id: str,
    execution_id: str | None,
    peer: Peer,
    reason: str,
    now: int,
    lease_until: int,
) -> bool:
    """Take back a run that its worker will not run; False where it was not that worker's.

    The worker has not started it. Where another was sent it before, that one may have: the
    run waits for it, or for another that may be sent it, until ``lease_until``.
    """
    run = lock_run(connection, run_id)
    if run is None or run.owner is None or not decide_report(run, execution_id, peer).accepted:
        return False
    if run.state not in (RunState.PENDING, RunState.CLAIMED):
        return False
    message = f"Worker {peer.worker_id} rejected the run: {reason}"
    if run.cancel_requested:
        how = f"worker {peer.worker_id} had not started it"
        move(connection, run, RunState.CANCELLED, now, message=cancellation_message(run.cancelled_by, how))
    elif run.resent:
        _orphan(connection, run, now, lease_until, message)
    else:
        drop_workload_tokens(connection, run_id)
        put_back(connection, run, now, message)
    return True


def withdraw(
    connection: Connection, sendings: Collection[tuple[str, str]], now: int, lease_until: int
) -> list[str]:
    """Take back assignments (run and execution ID) that were never written to their connection.

    Nobody can have started what was sent to nobody else: it waits for anybody, and no longer than
    before. Where the assignment was not the first of its execution, whoever was sent that may
    have started it: the run waits on for its worker. A run with a lease is such a one, since
    no lease runs within the time to claim a first assignment.

    Returns the runs that are in the queue again.
    """
    returned = []
    for run_id, execution_id in sendings:
        run = lock_run(connection, run_id)
        if run is None or run.state is not RunState.PENDING or run.execution_id != execution_id:
            continue
        if run.resent or run.lease_until is not None:
            _orphan(connection, run, now, lease_until, None)
        else:
            drop_workload_tokens(connection, run_id)
            _to_queue(connection, run, now, not_before=now)
            returned.append(run_id)
    return returned


def put_back(connection: Connection, run: RunRecord, now: int, message: str, **values: object) -> None:
    """Queue a run again, behind a delay that grows each time."""
    attempts = run.attempts + 1
    not_before = now + requeue_delay(attempts)
    _to_queue(connection, run, now, attempts=attempts, not_before=not_before, message=message, **values)


def _to_queue(connection: Connection, run: RunRecord, now: int, **values: object) -> None:
    move(connection, run, RunState.QUEUED, now, **owner_values(None), resent=False, **values)


def _orphan(connection: Connection, run: RunRecord, now: int, lease_until: int, message: str | None) -> None:
    """Leave a run pending, with nobody who has it for certain."""
    attempts = run.attempts + 1
    values = {
        "attempts": attempts,
        "claim_deadline": now + requeue_delay(attempts),
        "lease_until": run.lease_until or lease_until,
        "away_since": now if run.away_since is None else run.away_since,
        "message": message,
    }
    if run.state is RunState.PENDING:
        change(connection, run, **values, updated_at=now)
    else:
        move(connection, run, RunState.PENDING, now, **values)
