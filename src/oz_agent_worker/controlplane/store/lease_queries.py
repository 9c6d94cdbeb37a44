"""Leases of runs in flight: how they begin, continue and end.

A run in flight has a lease, or an open connection has the run. A run that was sent and not
answered in time has both.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, insert, not_, or_, select, update

from oz_agent_worker.controlplane.rules.leases import Lease, lease_end, resumed_lease
from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.run_states import IN_FLIGHT, RunOutcome, RunState

from .in_list import padded
from .keys import drop_workload_tokens
from .queue import put_back
from .runs import end, lock_runs, owner_values, records
from .tables import lease_checkpoint, runs

__all__ = [
    "Expired",
    "begin",
    "checkpoint",
    "clear",
    "due",
    "expire",
    "extend",
    "orphans",
    "resume",
    "set_owner",
    "start",
]

#: Well below the most parameters that any database takes in one statement.
_CHUNK: Final = 1000
_IN_FLIGHT: Final = runs.c.state.in_([s.value for s in sorted(IN_FLIGHT)])
_SET_LEASE: Final = update(runs).where(runs.c.id == bindparam("run_id"))
#: A cancellation that a public worker was sent: it ends with its lease, answered or not.
_ENDS_WITH_LEASE: Final = and_(runs.c.cancel_requested, runs.c.worker_backend.is_(None))


@dataclass(frozen=True, slots=True)
class Expired:
    """A run as it was when its execution was ended with its lease, and what became of it."""

    run: RunRecord
    outcome: RunOutcome


def start(connection: Connection, now: int, grace: int) -> None:
    """Start a control plane, which has no connection: every run in flight gets a lease."""
    resume(connection, now, grace)
    without = update(runs).where(_IN_FLIGHT, runs.c.lease_until.is_(None))
    connection.execute(without.values(lease_until=now + grace, away_since=now))


def resume(connection: Connection, now: int, grace: int) -> None:
    """Continue leases after a pause with the time that they had left; see ``resumed_lease``."""
    taken_at = connection.execute(select(lease_checkpoint.c.taken_at)).scalar_one_or_none()
    columns = select(runs.c.id, runs.c.away_since, runs.c.lease_until)
    found = connection.execute(columns.where(runs.c.lease_until.is_not(None))).all()
    resumed = [(row.id, resumed_lease(Lease(*row[1:]), taken_at, now, grace)) for row in found]
    if resumed:
        connection.execute(
            _SET_LEASE.values(away_since=bindparam("since"), lease_until=bindparam("until")),
            [{"run_id": run_id, "since": lease.since, "until": lease.until} for run_id, lease in resumed],
        )
    checkpoint(connection, now)


def checkpoint(connection: Connection, now: int) -> None:
    """Store that a control plane runs at ``now``: the time of leases counts until then."""
    if connection.execute(update(lease_checkpoint).values(taken_at=now)).rowcount == 0:
        connection.execute(insert(lease_checkpoint).values(id=1, taken_at=now))


def begin(connection: Connection, run_ids: Collection[str], now: int, until: int) -> None:
    """Begin leases for runs that no open connection certainly has.

    The lease of a run that was never answered continues: only an answer ends it. So does that of
    a cancellation that a public worker was sent. Every other run had a connection until ``now``.
    """
    had_connection = and_(runs.c.state != RunState.PENDING.value, not_(_ENDS_WITH_LEASE))
    fresh = or_(runs.c.lease_until.is_(None), had_connection)
    _update(connection, run_ids, {"lease_until": until, "away_since": now}, fresh)


def clear(connection: Connection, run_ids: Collection[str]) -> None:
    """End the leases of runs that an open connection has, but none that ends a cancellation."""
    _update(connection, run_ids, {"lease_until": None, "away_since": None}, not_(_ENDS_WITH_LEASE))


def extend(connection: Connection, ends: Mapping[str, int]) -> None:
    """Set later ends of leases, by run; see ``reconnected_leases``.

    A run may have been cancelled since the ends were decided: its lease stays as it is.
    """
    # Only runs in flight have a lease.
    later = _SET_LEASE.where(runs.c.lease_until < bindparam("until"), not_(runs.c.cancel_requested))
    rows = [{"run_id": run_id, "until": until} for run_id, until in ends.items()]
    connection.execute(later.values(lease_until=bindparam("until")), rows)


def set_owner(connection: Connection, run_ids: Collection[str], peer: Peer) -> None:
    """Record the hello of a worker that was sent these runs before it."""
    _update(connection, run_ids, owner_values(peer), runs.c.worker_id == peer.worker_id)


def _update(
    connection: Connection,
    run_ids: Collection[str],
    values: dict[str, object],
    *conditions: ColumnElement[bool],
) -> None:
    """Set values of those of ``run_ids`` that are in flight and meet ``conditions``."""
    ids = list(run_ids)
    for first in range(0, len(ids), _CHUNK):
        chosen = runs.c.id.in_(padded(ids[first : first + _CHUNK]))
        connection.execute(update(runs).where(chosen, _IN_FLIGHT, *conditions).values(values))


def orphans(connection: Connection, worker_ids: Collection[str]) -> list[RunRecord]:
    """The runs with a lease that ``worker_ids`` own and a connection may get, oldest first.

    A worker that sends a hello lists what it runs. Of its runs only the unanswered ones are left.
    """
    unknown = or_(runs.c.state == RunState.PENDING.value, runs.c.worker_backend.is_(None))
    owned = runs.c.worker_id.in_(padded(worker_ids))
    return records(connection, runs.c.lease_until.is_not(None), owned, unknown)


def due(connection: Connection, now: int, limit: int) -> list[RunRecord]:
    """Runs whose lease has ended, the earliest first."""
    return records(connection, runs.c.lease_until <= now, order_by=runs.c.lease_until, limit=limit)


def expire(connection: Connection, run_ids: Sequence[str], now: int, max_starts: int) -> list[Expired]:
    """End the executions of those of ``run_ids`` whose lease has ended; see ``lease_end``."""
    expired = []
    for run in lock_runs(connection, run_ids):
        if run.state not in IN_FLIGHT or run.lease_until is None or run.lease_until > now:
            continue
        outcome = lease_end(run, now, max_starts)
        if outcome.state is RunState.QUEUED:
            # The old execution may still run: it is cancelled, and its token is no longer valid.
            drop_workload_tokens(connection, run.id)
            fresh = {"execution_id": str(uuid.uuid4()), "retries": run.retries + 1}
            put_back(connection, run, now, outcome.message, **fresh)
        else:
            end(connection, run, outcome, now)
        expired.append(Expired(run, outcome))
    return expired
