"""Which connection gets which run: pure decisions.

Queued runs are assigned in the order in which they were created. A run that names a worker ID
goes to a connection with that ID, any other run to any connection. Of the connections with
room, the one that was served longest ago gets the run. This round robin stays fair when
connections come, go and fill up.

An assignment that was sent and not answered may have been started. It is sent again only to a
peer that cannot start it a second time; any other run waits for the end of its lease.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oz_agent_worker.controlplane.times import micros

from .leases import Lease, reconnected_lease
from .ownership import Peer, RunRecord
from .run_states import RunState

__all__ = [
    "Capacity",
    "ConnectionSnapshot",
    "Placement",
    "may_be_sent_again",
    "place_runs",
    "reassign",
    "reconnected_leases",
    "requeue_delay",
    "returns_to_queue",
]

_FIRST_BACKOFF: Final = micros(1)
_LONGEST_BACKOFF: Final = micros(30)
_LONGEST_DELAY_SECONDS: Final = 60
#: Longest time after which a dead connection is noticed: its worker may have connected again by then.
_TIME_TO_NOTICE: Final = micros(60)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many more runs a connection may get. Times and lengths are microseconds.

    A worker that sent a hello frame declared its limit. A public worker declares none, so it
    gets runs until it rejects one. The number in flight at that moment is its learned limit;
    one run more, at growing intervals, probes for a higher one.
    """

    declared: int = 0
    """Most runs at once according to the worker; 0: unlimited, or not declared."""
    learned: int | None = None
    """Runs in flight at the last rejection of a worker that declared no limit."""
    backoff: int = 0
    """Length of the last pause."""
    ready_at: int = 0
    """End of the pause. Until then the connection gets nothing beyond the learned limit."""

    def free(self, in_flight: int, now: int) -> int | None:
        """The number of runs that it may get at ``now``; None: any number."""
        paused = now < self.ready_at
        if self.learned is not None:
            return max(0, self.learned + (0 if paused else 1) - in_flight)
        if paused:
            return 0
        return max(0, self.declared - in_flight) if self.declared else None

    def sent_hello(self, max_concurrent_tasks: int) -> "Capacity":
        """After a hello: the declared limit replaces the learned one."""
        return Capacity(declared=max(0, max_concurrent_tasks))

    def rejected(self, in_flight: int, now: int) -> "Capacity":
        """After a rejection, with ``in_flight`` runs left.

        A rejection during a pause answers an assignment from before the pause. It lowers the
        learned limit and does not lengthen the pause.
        """
        learned = None if self.declared else in_flight
        if now < self.ready_at:
            return replace(self, learned=learned)
        backoff = min(_LONGEST_BACKOFF, max(_FIRST_BACKOFF, 2 * self.backoff))
        return replace(self, learned=learned, backoff=backoff, ready_at=now + backoff)

    def claimed(self, in_flight: int) -> "Capacity":
        """After a claim: a claim beyond the learned limit raises it."""
        if self.learned is None or in_flight <= self.learned:
            return self
        return replace(self, learned=in_flight, backoff=0, ready_at=0)

    def ended(self, in_flight: int) -> "Capacity":
        """After the end of one of its runs, with ``in_flight`` left.

        The pause ends too, unless that freed a slot below the learned limit.
        """
        slot_freed = self.learned is not None and in_flight < self.learned
        return replace(self, backoff=0, ready_at=self.ready_at if slot_freed else 0)


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """What scheduling needs to know of an open connection.

    ``free`` is the number of runs that it may get (None: any number); ``last_served`` grows
    with each assignment over all connections; ``settled``: it sent a hello, or had time to;
    ``opened_at`` is when it was opened, in microseconds since the epoch.
    """

    connection_id: int
    peer: Peer
    free: int | None = None
    last_served: int = 0
    settled: bool = True
    opened_at: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """A run and the connection that gets it."""

    run_id: str
    connection_id: int


def place_runs(
    queued: Sequence[RunRecord], connections: Sequence[ConnectionSnapshot]
) -> tuple[Placement, ...]:
    """Place as many of ``queued`` (oldest first) as ``connections`` have room for."""
    free = {c.connection_id: c.free for c in connections if c.free != 0}
    served = {c.connection_id: (c.last_served, c.connection_id) for c in connections}
    worker_of = {c.connection_id: c.peer.worker_id for c in connections}
    tick = max((c.last_served for c in connections), default=0)
    placements = []
    for run in queued:
        eligible = [c for c in free if run.worker_host in (None, worker_of[c])]
        if not eligible:
            continue
        chosen = min(eligible, key=served.__getitem__)
        tick += 1
        served[chosen] = (tick, chosen)
        placements.append(Placement(run.id, chosen))
        room = free[chosen]
        free[chosen] = None if room is None else room - 1
        if free[chosen] == 0:
            del free[chosen]
    return tuple(placements)


def requeue_delay(attempts: int) -> int:
    """The delay in microseconds of a run that came back ``attempts`` times: 1 s, doubling to 60 s."""
    return micros(min(_LONGEST_DELAY_SECONDS, 2 ** min(max(attempts, 1) - 1, 6)))


def may_be_sent_again(run: RunRecord, peer: Peer, *, overdue: bool, missing: bool) -> bool:
    """Whether ``peer`` may get the execution that was sent to the run's owner, which is gone.

    A public worker claims before it starts, and sends nothing else that shows what it has. It
    gets the run again once the time to claim it is over (``overdue``).

    Two workers on Kubernetes create the same Job, and the second finds that of the first. But the first
    deletes the Job of a task that has succeeded as soon as its report is stored. So the second gets the run
    only once the first had its time to connect again (``missing``), and to report.
    """
    if run.owner is None or run.state is not RunState.PENDING:
        return False
    if not run.owner.sent_hello:
        return overdue and not peer.sent_hello and peer.worker_id == run.owner.worker_id
    named = peer.instance is not None and peer.instance == run.owner.instance
    return peer.same_instance(run.owner) and (named or missing)


def reassign(
    orphans: Sequence[RunRecord],
    connections: Sequence[ConnectionSnapshot],
    now: int,
    missing: Collection[str] = (),
) -> tuple[Placement, ...]:
    """Place ``orphans``, runs in flight that no connection has, with the first connection that may get each.

    ``orphans`` are in the order in which they were created. ``missing`` are those whose worker had its time
    to connect again.
    """
    settled = [c for c in connections if c.settled]
    free = {c.connection_id: c.free for c in settled}
    placements = []
    for run in orphans:
        overdue = run.claim_deadline is not None and run.claim_deadline <= now
        for connection in settled:
            number = connection.connection_id
            room = free[number]
            away = run.id in missing
            if room != 0 and may_be_sent_again(run, connection.peer, overdue=overdue, missing=away):
                free[number] = None if room is None else room - 1
                placements.append(Placement(run.id, number))
                break
    return tuple(placements)


def reconnected_leases(
    orphans: Sequence[RunRecord], connections: Sequence[ConnectionSnapshot], grace: int
) -> dict[str, int]:
    """The new end of the lease of each claimed run whose public worker may have connected again.

    A connection that was open long before the run's own connection closed belongs to another
    process of the worker ID. Runs whose lease stays as it is are left out, and so are those that
    shall be cancelled. See ``reconnected_lease``.
    """
    latest: dict[str, int] = {}
    for connection in connections:
        peer = connection.peer
        if connection.settled and not peer.sent_hello:
            latest[peer.worker_id] = max(connection.opened_at, latest.get(peer.worker_id, 0))
    ends = {}
    for run in orphans:
        opened_at = latest.get(run.worker_id or "")
        if opened_at is None or run.away_since is None or run.lease_until is None:
            continue
        extended = reconnected_lease(Lease(run.away_since, run.lease_until), grace)
        claimed = run.is_public and run.state is not RunState.PENDING and not run.cancel_requested
        if claimed and opened_at >= run.away_since - _TIME_TO_NOTICE and extended.until > run.lease_until:
            ends[run.id] = extended.until
    return ends


def returns_to_queue(holder: Peer | None, *, resent: bool) -> bool:
    """Whether a run that was not claimed in time may go to any worker.

    A public worker claims before it starts, so no claim means not started. A worker that sent
    a hello claims when the work has started, and may be about to. ``holder`` is None if the
    connection is gone; ``resent``: another process may have the run.
    """
    return holder is not None and not holder.sent_hello and not resent
