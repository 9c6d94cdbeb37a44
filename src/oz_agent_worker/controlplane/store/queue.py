"""The queue: what waits, what is handed out, what comes back, and when to look again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, or_, select

from oz_agent_worker.controlplane.dispatch import Waiting, requeue_delay
from oz_agent_worker.controlplane.states import RunState

from .keys import drop_workload_tokens
from .runs import Head, Run, get_all, head, move
from .schema import runs, workload_tokens

__all__ = ["Handout", "Returned", "assign", "expire_claims", "next_deadline", "reject", "waiting"]


@dataclass(frozen=True, slots=True)
class Handout:
    """A run that is about to be assigned, and the hash of the token its agent will have."""

    run_id: str
    worker_id: str
    token_hash: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A run that is in the queue again, and the worker that had it."""

    run_id: str
    worker_id: str | None


def waiting(connection: Connection, now: int, worker_ids: Collection[str], limit: int) -> list[Waiting]:
    """The oldest runs that one of ``worker_ids`` may have at ``now``."""
    statement = (
        select(runs.c.id, runs.c.worker_host)
        .where(
            runs.c.state == RunState.QUEUED.value,
            runs.c.not_before <= now,
            or_(runs.c.worker_host.is_(None), runs.c.worker_host.in_(list(worker_ids))),
        )
        .order_by(runs.c.seq)
        .limit(limit)
    )
    return [Waiting(row.id, row.worker_host) for row in connection.execute(statement)]


def assign(connection: Connection, handouts: Sequence[Handout], now: int, deadline: int) -> list[Run]:
    """Move runs from the queue to their workers; those that are no longer queued stay out."""
    taken = []
    for handout in handouts:
        run = head(connection, handout.run_id)
        if run is None or run.state is not RunState.QUEUED:
            continue
        move(
            connection,
            run,
            RunState.PENDING,
            now,
            worker_id=handout.worker_id,
            claim_deadline=deadline,
            message=None,
        )
        # Tokens of earlier assignments stay good: a late claim of one of them is taken.
        connection.execute(
            insert(workload_tokens).values(token_hash=handout.token_hash, run_id=run.id, created_at=now)
        )
        taken.append(run.id)
    return get_all(connection, taken)


def expire_claims(connection: Connection, now: int) -> list[Returned]:
    """Take back the runs whose worker did not claim them in time."""
    overdue = select(runs.c.id).where(runs.c.state == RunState.PENDING.value, runs.c.claim_deadline <= now)
    returned = []
    for run_id in connection.execute(overdue.order_by(runs.c.seq)).scalars().all():
        run = head(connection, run_id)
        if run is None or run.state is not RunState.PENDING:
            continue
        _put_back(connection, run, now, f"Worker {run.worker_id} did not claim the run in time.")
        returned.append(Returned(run_id, run.worker_id))
    return returned


def reject(
    connection: Connection, run_id: str, execution_id: str | None, worker_id: str, reason: str, now: int
) -> bool:
    """Take back a run that its worker will not run; False where it was not that worker's."""
    run = head(connection, run_id)
    if run is None or run.worker_id != worker_id or execution_id not in (None, run.execution_id):
        return False
    if run.state not in (RunState.PENDING, RunState.CLAIMED):
        return False
    if run.cancel_requested:
        move(connection, run, RunState.CANCELLED, now, message="Cancelled; its worker had not started it.")
        return True
    drop_workload_tokens(connection, run_id)
    _put_back(connection, run, now, f"Worker {worker_id} rejected the run: {reason}")
    return True


def _put_back(connection: Connection, run: Head, now: int, message: str) -> None:
    attempts = run.attempts + 1
    move(
        connection,
        run,
        RunState.QUEUED,
        now,
        worker_id=None,
        attempts=attempts,
        not_before=now + requeue_delay(attempts),
        message=message,
    )


def next_deadline(connection: Connection, now: int) -> int | None:
    """When the queue changes by itself next: a claim falls due, or a run's delay ends."""
    claim = select(func.min(runs.c.claim_deadline)).where(runs.c.state == RunState.PENDING.value)
    delay = select(func.min(runs.c.not_before)).where(
        runs.c.state == RunState.QUEUED.value, runs.c.not_before > now
    )
    times = [connection.execute(claim).scalar(), connection.execute(delay).scalar()]
    return min((t for t in times if t is not None), default=None)
