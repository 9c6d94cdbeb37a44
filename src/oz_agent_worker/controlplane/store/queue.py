"""The queue: which runs wait, are assigned and come back, and when the next deadline is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, insert, or_, select, update

from oz_agent_worker.controlplane.rules.leases import Lease, extended_lease
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer, RunRecord, decide_report
from oz_agent_worker.controlplane.rules.run_states import RunState, cancellation_message
from oz_agent_worker.controlplane.rules.scheduling import may_be_sent_again, requeue_delay

from .in_list import padded
from .keys import drop_workload_tokens
from .runs import Run, change, get_all, lock_run, lock_runs, move, owner_values, records
from .tables import runs, workload_tokens

__all__ = [
    "Dispatch",
    "NextDeadlines",
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

_QUEUED: Final = runs.c.state == RunState.QUEUED.value
_PENDING: Final = runs.c.state == RunState.PENDING.value
_NO_OWNER: Final = owner_values(None) | {"resent": False}


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A run that is about to be sent to ``peer``, and the hash of its agent's token."""

    run_id: str
    peer: Peer
    token_hash: str


class NextDeadlines(NamedTuple):
    """The next deadline of each kind: to claim a run, the end of a lease, the end of a run's delay."""

    claim: int | None = None
    lease: int | None = None
    delay: int | None = None


def next_deadlines(connection: Connection, now: int) -> NextDeadlines:
    """Read the next deadlines, each from the end of an index."""
    firsts = (
        select(func.min(runs.c.claim_deadline)).where(_PENDING),
        select(func.min(runs.c.lease_until)).where(runs.c.lease_until.is_not(None)),
        select(func.min(runs.c.not_before)).where(_QUEUED, runs.c.not_before > now),
    )
    return NextDeadlines(*connection.execute(select(*(s.scalar_subquery() for s in firsts))).one())


def queued(connection: Connection, now: int, worker_ids: Collection[str], limit: int) -> list[RunRecord]:
    """The oldest runs that may be assigned to one of ``worker_ids`` at ``now``."""
    suits = or_(runs.c.worker_host.is_(None), runs.c.worker_host.in_(padded(worker_ids)))
    return records(connection, _QUEUED, runs.c.not_before <= now, suits, limit=limit)


def assign(connection: Connection, dispatches: Sequence[Dispatch], now: int, deadline: int) -> list[Run]:
    """Move runs from the queue to their workers; returns those that were still queued."""
    taken = []
    for dispatch in dispatches:
        run = lock_run(connection, dispatch.run_id)
        if run is not None and run.state is RunState.QUEUED:
            values = owner_values(dispatch.peer) | {"claim_deadline": deadline}
            move(connection, run, RunState.PENDING, now, **values, resent=False, message=None)
            taken.append(dispatch)
    return _with_tokens(connection, taken, now)


def send_again(
    connection: Connection, dispatches: Sequence[Dispatch], now: int, deadline: int, *, grace: int
) -> list[Run]:
    """Send unclaimed executions to other connections; returns those that were still unclaimed.

    The execution stays the same. Its lease continues, since only an answer ends it; a worker
    that sent a hello gets a longer one. See ``extended_lease``.
    """
    taken = []
    for dispatch in dispatches:
        run, peer = lock_run(connection, dispatch.run_id), dispatch.peer
        if run is None or run.lease_until is None or run.away_since is None:
            continue
        if not may_be_sent_again(run, peer, overdue=True, missing=True):
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
        taken.append(dispatch)
    return _with_tokens(connection, taken, now)


def _with_tokens(connection: Connection, taken: Sequence[Dispatch], now: int) -> list[Run]:
    """Store the tokens of dispatched runs, and return the runs.

    Earlier tokens of an execution stay valid: any of the assignments sent may be the one that runs.
    """
    if not taken:
        return []
    tokens = [{"token_hash": d.token_hash, "run_id": d.run_id, "created_at": now} for d in taken]
    connection.execute(insert(workload_tokens), tokens)
    return get_all(connection, [d.run_id for d in taken])


def unclaimed(connection: Connection, now: int) -> list[RunRecord]:
    """The runs that were not claimed in time, oldest first."""
    return records(connection, _PENDING, runs.c.claim_deadline <= now)


def extend_deadline(
    connection: Connection, run_ids: Collection[str], now: int, deadline: int, lease_until: int
) -> None:
    """Give unclaimed runs a later deadline, and a lease unless one runs already."""
    late = update(runs).where(runs.c.id.in_(padded(run_ids)), _PENDING, runs.c.claim_deadline <= now)
    connection.execute(
        late.values(
            claim_deadline=deadline,
            lease_until=func.coalesce(runs.c.lease_until, lease_until),
            away_since=func.coalesce(runs.c.away_since, now),
        )
    )


def return_unclaimed(connection: Connection, run_ids: Collection[str], now: int) -> list[RunRecord]:
    """Put unclaimed runs back into the queue; returns those that were still unclaimed, as they were."""
    returned = [run for run in lock_runs(connection, run_ids) if run.state is RunState.PENDING]
    for run in returned:
        if run.cancel_requested:
            _cancel_unstarted(connection, run, now)
        else:
            put_back(connection, run, now, f"Worker {run.worker_id} did not claim the run in time.")
    return returned


def reject(
    connection: Connection, ref: ExecutionRef, peer: Peer, reason: str, now: int, lease_until: int
) -> bool:
    """Take back a run that its worker will not run; False if it is not that worker's run.

    The worker has not started it. If another process was sent it before, that one may have:
    then the run waits until ``lease_until`` for that process, or for one that may be sent it.
    """
    run = lock_run(connection, ref.run_id)
    if run is None or run.owner is None or not decide_report(run, ref.execution_id, peer).accepted:
        return False
    if run.state not in (RunState.PENDING, RunState.CLAIMED):
        return False
    message = f"Worker {peer.worker_id} rejected the run: {reason}"
    if run.resent:
        _await_answer(connection, run, now, lease_until, message)
    elif run.cancel_requested:
        _cancel_unstarted(connection, run, now)
    else:
        drop_workload_tokens(connection, run.id)
        put_back(connection, run, now, message)
    return True


def withdraw(connection: Connection, refs: Collection[ExecutionRef], now: int, lease_until: int) -> list[str]:
    """Take back assignments that were never sent; returns the runs that are in the queue again.

    If it was the execution's first assignment, no worker can have started it: any worker may get
    it, without a delay. Otherwise a process that got an earlier assignment may have started it,
    and the run waits for its worker. A run with a lease is such a run, since no lease runs
    within the time to claim a first assignment.
    """
    returned = []
    for ref in refs:
        run = lock_run(connection, ref.run_id)
        if run is None or run.state is not RunState.PENDING or run.ref != ref:
            continue
        if run.resent or run.lease_until is not None:
            _await_answer(connection, run, now, lease_until, None)
        elif run.cancel_requested:
            _cancel_unstarted(connection, run, now)
        else:
            drop_workload_tokens(connection, run.id)
            move(connection, run, RunState.QUEUED, now, **_NO_OWNER, not_before=now)
            returned.append(run.id)
    return returned


def _cancel_unstarted(connection: Connection, run: RunRecord, now: int) -> None:
    """Cancel, as requested, a run that its worker has not started."""
    message = cancellation_message(run.cancelled_by, f"worker {run.worker_id} had not started it")
    move(connection, run, RunState.CANCELLED, now, message=message)


def put_back(connection: Connection, run: RunRecord, now: int, message: str, **values: object) -> None:
    """Queue a run again, after a delay that grows each time."""
    attempts = run.attempts + 1
    values |= {"attempts": attempts, "not_before": now + requeue_delay(attempts), "message": message}
    move(connection, run, RunState.QUEUED, now, **_NO_OWNER, **values)


def _await_answer(
    connection: Connection, run: RunRecord, now: int, lease_until: int, message: str | None
) -> None:
    """Leave a run pending with a lease: a process that is not connected may have it."""
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
