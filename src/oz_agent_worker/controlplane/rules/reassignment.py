"""What can be done for runs whose connection is gone: a pure decision.

An assignment that was sent and not answered may have been started. It is sent again
only to a peer that cannot start it a second time; any other run waits for its lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .peer import Peer
from .run_states import RunState

__all__ = ["Orphan", "Rescue", "Station", "may_be_sent_again", "rescue", "returns_to_queue"]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run in flight that no open connection has. ``overdue``: its time to be claimed is over."""

    run_id: str
    state: RunState
    owner: Peer
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Station:
    """An open connection.

    ``settled``: it said hello, or had the time to. ``free`` is the number of runs that
    it may take (None: any number).
    """

    connection_id: int
    peer: Peer
    settled: bool = True
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Rescue:
    """A run for a connection: to be sent again, or else to be counted as its own."""

    run_id: str
    connection_id: int
    send: bool


def may_be_sent_again(orphan: Orphan, peer: Peer) -> bool:
    """Whether ``peer`` may be sent the execution that the orphan's owner was sent.

    A public worker claims before it starts, and can show in no other way what it has:
    it is sent the run once the time in which it would have claimed it is over.
    """
    if orphan.state is not RunState.PENDING:
        return False
    if not orphan.owner.sent_hello:
        return orphan.overdue and not peer.sent_hello and peer.worker_id == orphan.owner.worker_id
    return peer.same_instance(orphan.owner)


def _is_kept_alive(orphan: Orphan, peer: Peer) -> bool:
    """A public worker does not say what it has: while one of its ID is there, it may be at work."""
    running = orphan.state is not RunState.PENDING
    public = not orphan.owner.sent_hello and not peer.sent_hello
    return running and public and peer.worker_id == orphan.owner.worker_id


def rescue(orphans: Sequence[Orphan], stations: Sequence[Station]) -> tuple[Rescue, ...]:
    """Match ``orphans`` (oldest first) with the connections that can help them now."""
    free = {s.connection_id: s.free for s in stations}
    found = []
    for orphan in orphans:
        for station in stations:
            if not station.settled:
                continue
            if _is_kept_alive(orphan, station.peer):
                found.append(Rescue(orphan.run_id, station.connection_id, send=False))
                break
            room = free[station.connection_id]
            if room != 0 and may_be_sent_again(orphan, station.peer):
                free[station.connection_id] = None if room is None else room - 1
                found.append(Rescue(orphan.run_id, station.connection_id, send=True))
                break
    return tuple(found)


def returns_to_queue(holder: Peer | None, *, resent: bool) -> bool:
    """Whether a run that was not claimed in time may be given to anybody.

    Only a public worker says by its silence that it did not start: it claims first. One
    that said hello claims when the work stands, and may still be at it. ``holder`` is
    None where the connection is gone; ``resent`` tells that another may have the run.
    """
    return holder is not None and not holder.sent_hello and not resent
