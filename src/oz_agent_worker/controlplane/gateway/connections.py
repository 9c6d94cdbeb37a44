"""The connections of workers, and which of them has which run.

All of it is in memory: after a restart workers connect again and say what they have.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.scheduling import Capacity, ConnectionSnapshot
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import ControlPlaneFrame, TaskAssignment, TaskCancellation

__all__ = ["Connections", "Disconnected", "WorkerConnection"]

_log = logging.getLogger(__name__)

#: Frames that may wait for a slow worker; beyond that it gets no more runs.
_MOST_OUTGOING: Final = 256
#: A worker sends its hello at once; one that sends none gets runs after this time.
_HELLO_TIMEOUT: Final = micros(0.5)


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What a closed connection leaves behind: its runs, and those assignments of them that were never sent.

    A run that was sent again may be claimed already: its worker had it from an earlier assignment.
    """

    runs: tuple[str, ...] = ()
    unsent: tuple[ExecutionRef, ...] = ()


class WorkerConnection:
    """One worker's WebSocket, as the rest of the control plane sees it.

    ``refused`` are the executions of which a claim was refused. ``odd_frames`` logs what it sends and
    cannot be used: a faulty worker may send nothing else.
    """

    def __init__(self, number: int, worker_id: str, key_id: str, now: int) -> None:
        self.number = number
        self.peer = Peer(worker_id)
        self.key_id = key_id
        self.opened_at = now
        self.settles_at = now + _HELLO_TIMEOUT
        self.capacity = Capacity(ready_at=self.settles_at)
        self.runs: set[str] = set()
        self.refused: set[ExecutionRef] = set()
        self.outgoing: asyncio.Queue[ControlPlaneFrame] = asyncio.Queue()
        self.last_served = 0
        self.closing = asyncio.Event()
        self.odd_frames = FaultLog(_log, f"a frame of worker {self}")

    def __str__(self) -> str:
        return f"{self.peer.worker_id}#{self.number}"

    def accept_hello(self, peer: Peer, max_concurrent_tasks: int) -> None:
        """Record what the worker says of itself."""
        self.peer = peer
        self.capacity = self.capacity.sent_hello(max_concurrent_tasks)

    def rejected(self, now: int) -> None:
        """Record that the worker did not take a run that it was sent."""
        self.capacity = self.capacity.rejected(len(self.runs), now)

    def cancel(self, ref: ExecutionRef) -> None:
        """Ask the worker to stop an execution; without a hello, all that it has of the run."""
        execution_id = ref.execution_id if self.peer.sent_hello else None
        self.send(TaskCancellation(task_id=ref.run_id, execution_id=execution_id))

    def send(self, frame: ControlPlaneFrame) -> None:
        """Queue a frame; it is lost if the connection breaks first."""
        self.outgoing.put_nowait(frame)

    @property
    def has_room(self) -> bool:
        """Whether the worker reads its frames fast enough."""
        return self.outgoing.qsize() < _MOST_OUTGOING

    def snapshot(self, now: int) -> ConnectionSnapshot:
        """What scheduling needs to know of it at ``now``."""
        return ConnectionSnapshot(
            self.number,
            self.peer,
            free=self.capacity.free(len(self.runs), now) if self.has_room else 0,
            last_served=self.last_served,
            settled=self.peer.sent_hello or now >= self.settles_at,
            opened_at=self.opened_at,
        )

    def drain(self) -> tuple[ExecutionRef, ...]:
        """Drop the frames that wait, and return the assignments among them."""
        frames = [self.outgoing.get_nowait() for _ in range(self.outgoing.qsize())]
        return tuple(
            ExecutionRef(frame.task_id or "", frame.execution_id)
            for frame in frames
            if isinstance(frame, TaskAssignment)
        )


class Connections:
    """The registry of open connections, and the holder of each run in flight.

    ``_departed`` are the runs of workers that said goodbye: no later connection is theirs. ``_lost_at`` is
    when the connection that had a run closed, in microseconds since the epoch.
    """

    def __init__(self) -> None:
        self._connections: dict[int, WorkerConnection] = {}
        self._holders: dict[str, WorkerConnection] = {}
        self._departed: set[str] = set()
        self._lost_at: dict[str, int] = {}
        self._numbers = 0
        self._served = 0

    def connect(self, worker_id: str, key_id: str, now: int) -> WorkerConnection:
        """Add a worker's connection."""
        self._numbers += 1
        connection = WorkerConnection(self._numbers, worker_id, key_id, now)
        self._connections[connection.number] = connection
        return connection

    def disconnect(self, connection: WorkerConnection, now: int, *, departed: bool = False) -> Disconnected:
        """Remove a connection; its worker owns the runs until their leases end. Repeating it does nothing.

        ``departed``: its process ended in good order.
        """
        self._connections.pop(connection.number, None)
        # The assignment of a run that went to another connection meanwhile may still wait.
        unsent = tuple(ref for ref in connection.drain() if ref.run_id in connection.runs)
        runs = tuple(sorted(connection.runs))
        for run_id in runs:
            self._holders.pop(run_id, None)
            self._lost_at[run_id] = now
        if departed:
            self._departed |= connection.runs
        connection.runs.clear()
        return Disconnected(runs, unsent)

    def superseded(self, connection: WorkerConnection) -> list[WorkerConnection]:
        """Older connections of the same instance: an instance has one at a time, so they are dead."""
        instance = connection.peer.instance
        return [
            c
            for c in self._connections.values()
            if instance is not None and c.number < connection.number and c.peer == connection.peer
        ]

    def get(self, number: int) -> WorkerConnection | None:
        """The open connection with this number."""
        return self._connections.get(number)

    def holder(self, run_id: str) -> WorkerConnection | None:
        """The connection that has a run."""
        return self._holders.get(run_id)

    def has_departed(self, run_id: str) -> bool:
        """Whether the process that had a run last said goodbye."""
        return run_id in self._departed

    def lost_at(self, run_id: str) -> int | None:
        """When the connection that had a run closed; None if none did since the start."""
        return self._lost_at.get(run_id)

    def is_elsewhere(self, run_id: str, connection: WorkerConnection) -> bool:
        """Whether another open connection has a run."""
        return self._holders.get(run_id, connection) is not connection

    def bind(self, run_id: str, connection: WorkerConnection) -> bool:
        """Record that a connection, and no other, has a run; False if the connection is gone."""
        if connection.number not in self._connections:
            return False
        self.release(run_id)
        self._holders[run_id] = connection
        connection.runs.add(run_id)
        return True

    def release(self, run_id: str) -> WorkerConnection | None:
        """Record that no connection has a run, and return the one that had it."""
        connection = self._holders.pop(run_id, None)
        self._departed.discard(run_id)
        self._lost_at.pop(run_id, None)
        if connection is not None:
            connection.runs.discard(run_id)
        return connection

    def served(self, connection: WorkerConnection) -> None:
        """Record that a connection was sent a run: its turn comes after all others."""
        self._served += 1
        connection.last_served = self._served

    def snapshots(self, now: int) -> list[ConnectionSnapshot]:
        """The open connections at ``now``, the one served longest ago first."""
        order = sorted(self._connections.values(), key=lambda c: (c.last_served, c.number))
        return [c.snapshot(now) for c in order if not c.closing.is_set()]

    def shift_opened(self, length: int, *, latest: int) -> None:
        """Move the times at which connections were opened by a time that does not count, up to ``latest``."""
        for connection in self._connections.values():
            connection.opened_at = min(latest, connection.opened_at + length)

    def next_ready(self, now: int) -> int | None:
        """The time at which the next pause of a connection ends."""
        pauses = (c.capacity.ready_at for c in self._connections.values())
        return min((at for at in pauses if at > now), default=None)

    def cancel(self, ref: ExecutionRef, worker_id: str | None) -> bool:
        """Ask a worker to stop an execution; False if the worker is not connected.

        The frame goes to every connection with its ID. A public worker that reconnected did
        not say what it has, and its older connection may be dead without a sign of it. A
        worker ignores the cancellation of a run that it does not have.
        """
        notified = [c for c in self._connections.values() if c.peer.worker_id == worker_id]
        for connection in notified:
            connection.cancel(ref)
        return bool(notified)

    def drop_key(self, key_id: str) -> None:
        """Close the connections that were opened with a key that is revoked."""
        for connection in self._connections.values():
            if connection.key_id == key_id:
                _log.info("closing the connection of worker %s: its key was revoked", connection)
                connection.closing.set()
