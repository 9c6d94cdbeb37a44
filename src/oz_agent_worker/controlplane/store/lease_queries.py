"""Leases: runs in flight that no open connection has, and what becomes of them.

A run in flight has a lease, or a connection that is open has the run. One that was sent
and not answered in time has both.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from oz_agent_worker.controlplane.rules.leases import Lease, lease_end, resumed_lease
from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, RunOutcome, RunState
from oz_agent_worker.controlplane.rules.scheduling import OrphanedRun

from .in_list import padded
from .keys import drop_workload_tokens
from .queue import put_back
from .runs import OWNER_COLUMNS, lock_run, move, owner_values
from .tables import lease_checkpoint, runs

__all__ = [
    "DueLease",
    "Ended",
    "begin",
    "checkpoint",
    "clear",
    "due",
    "end",
    "name_owner",
    "orphans",
    "resume",
    "start",
]

#: Well below the most parameters that any database takes in one statement.
_CHUNK: Final = 1000
_LIVING: Final = runs.c.state.in_([s.value for s in sorted(IN_FLIGHT)])


@dataclass(frozen=True, slots=True)
class DueLease:
    """A run whose lease has ended, and the state in which it is."""

    run_id: str
    state: RunState


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of which an execution was given up, and what became of the run."""

    run_id: str
    execution_id: str
    end: RunOutcome


def start(connection: Connection, now: int, grace: int) -> None:
    """Begin a control plane's life, with no connection: every run in flight is waited for."""
    resume(connection, now, grace)
    connection.execute(
        update(runs)
        .where(_LIVING, runs.c.lease_until.is_(None))
        .values(lease_until=now + grace, away_since=now)
    )


def resume(connection: Connection, now: int, grace: int) -> None:
    """Listen again: leases that ran go on with what they had left; see ``resumed_lease``."""
    taken_at = connection.execute(select(lease_checkpoint.c.taken_at)).scalar_one_or_none()
    found = connection.execute(
        select(runs.c.id, runs.c.lease_until, runs.c.away_since).where(runs.c.lease_until.is_not(None))
    ).all()
    leases = ((row.id, Lease(row.away_since, row.lease_until)) for row in found)
    resumed = [(run_id, resumed_lease(lease, taken_at, now, grace)) for run_id, lease in leases]
    if resumed:
        one = update(runs).where(runs.c.id == bindparam("run_id"))
        values = one.values(away_since=bindparam("since"), lease_until=bindparam("until"))
        connection.execute(
            values,
            [{"run_id": run_id, "since": lease.since, "until": lease.until} for run_id, lease in resumed],
        )
    checkpoint(connection, now)


def checkpoint(connection: Connection, now: int) -> None:
    """Note that a control plane listens: the time that leases have run until now counts."""
    if connection.execute(update(lease_checkpoint).values(taken_at=now)).rowcount == 0:
        connection.execute(insert(lease_checkpoint).values(id=1, taken_at=now))


def begin(connection: Connection, run_ids: Collection[str], now: int, until: int) -> None:
    """Nobody is there who certainly has these runs: wait for their worker.

    Where a run was never answered, a lease that runs goes on: only an answer ends that wait.
    Any other run was somebody's until ``now``.
    """
    none_runs = or_(runs.c.lease_until.is_(None), runs.c.state != RunState.PENDING.value)
    for chunk in _chunks(run_ids):
        connection.execute(
            update(runs)
            .where(runs.c.id.in_(chunk), _LIVING, none_runs)
            .values(lease_until=until, away_since=now)
        )


def clear(connection: Connection, run_ids: Collection[str]) -> None:
    """Somebody is there who has these runs."""
    for chunk in _chunks(run_ids):
        connection.execute(
            update(runs).where(runs.c.id.in_(chunk), _LIVING).values(lease_until=None, away_since=None)
        )


def name_owner(connection: Connection, run_ids: Collection[str], peer: Peer) -> None:
    """Record what a worker said of itself after it was sent these runs."""
    for chunk in _chunks(run_ids):
        connection.execute(
            update(runs)
            .where(runs.c.id.in_(chunk), _LIVING, runs.c.worker_id == peer.worker_id)
            .values(owner_values(peer))
        )


def orphans(connection: Connection, worker_ids: Collection[str], now: int) -> list[OrphanedRun]:
    """The runs with a lease that one of ``worker_ids`` had, and that a connection may help, oldest first.

    A worker that said hello names what it runs, so only what it did not answer is left.
    """
    statement = select(runs.c.id, runs.c.state, runs.c.claim_deadline, *OWNER_COLUMNS).where(
        runs.c.lease_until.is_not(None),
        runs.c.worker_id.in_(padded(worker_ids)),
        or_(runs.c.state == RunState.PENDING.value, runs.c.worker_backend.is_(None)),
    )
    rows = connection.execute(statement.order_by(runs.c.seq)).mappings()
    return [
        OrphanedRun(
            run_id=row["id"],
            state=RunState(row["state"]),
            owner=Peer(*(row[column.name] for column in OWNER_COLUMNS)),
            overdue=row["claim_deadline"] is not None and row["claim_deadline"] <= now,
        )
        for row in rows
    ]


def due(connection: Connection, now: int, limit: int) -> list[DueLease]:
    """Runs whose lease has ended, the one that waited longest first."""
    statement = select(runs.c.id, runs.c.state).where(runs.c.lease_until <= now)
    rows = connection.execute(statement.order_by(runs.c.lease_until).limit(limit))
    return [DueLease(row.id, RunState(row.state)) for row in rows]


def end(connection: Connection, run_ids: Sequence[str], now: int, max_starts: int) -> list[Ended]:
    """Give up those of ``run_ids`` whose lease has ended; none is started more than ``max_starts`` times."""
    ended = []
    for run_id in run_ids:
        run = lock_run(connection, run_id)
        if run is None or run.state not in IN_FLIGHT or run.lease_until is None or run.lease_until > now:
            continue
        decided = lease_end(run, now, max_starts)
        if decided.state is RunState.QUEUED:
            # The old execution may yet turn up: it is told to stop, and reads nothing more.
            drop_workload_tokens(connection, run_id)
            fresh = {"execution_id": str(uuid.uuid4()), "retries": run.retries + 1}
            put_back(connection, run, now, decided.message, **fresh)
        else:
            move(
                connection,
                run,
                decided.state,
                now,
                message=decided.message,
                error_code=decided.error_code,
                retryable=decided.retryable,
            )
        ended.append(Ended(run_id, run.execution_id, decided))
    return ended


def _chunks(run_ids: Collection[str]) -> Iterator[list[str]]:
    ids = list(run_ids)
    for begin_ in range(0, len(ids), _CHUNK):
        yield padded(ids[begin_ : begin_ + _CHUNK])
