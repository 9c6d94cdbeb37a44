"""The connections of workers, and which of them holds which run.

All of it is memory: after a restart workers connect again and say what they hold.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.scheduling import Capacity, ConnectionSnapshot
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import ControlPlaneFrame, TaskAssignment, TaskCancellation

__all__ = ["Connections", "Disconnected", "WorkerConnection"]

_log = logging.getLogger(__name__)

#: Frames that may wait for a slow worker; beyond that it is given no more runs.
_OUTGOING: Final = 256
#: A worker that will say hello does so at once; one that says nothing is given work after this.
_GREETING: Final = micros(0.5)


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What a connection leaves behind: runs that it had, and assignments that were never sent.

    Of those the run and the execution ID.
    """

    runs: tuple[str, ...] = ()
    unsent: tuple[tuple[str, str], ...] = ()


class WorkerConnection:
    """One worker's WebSocket, as the rest of the control plane sees it.

    ``refused`` are the claims that did not count, as run and execution ID.
    """

    def __init__(self, number: int, worker_id: str, key_id: str, now: int) -> None:
        self.number = number
        self.peer = Peer(worker_id)
        self.key_id = key_id
        self.settles_at = now + _GREETING
        self.capacity = Capacity(ready_at=self.settles_at)
        self.runs: set[str] = set()
        self.refused: set[tuple[str, str | None]] = set()
        self.outgoing: asyncio.Queue[ControlPlaneFrame] = asyncio.Queue()
        self.last_served = 0
        self.closing = asyncio.Event()

    def __str__(self) -> str:
        return f"{self.worker_id}#{self.number}"

    @property
    def worker_id(self) -> str:
        """The ID that its worker gave; others may have it too."""
        return self.peer.worker_id

    def accept_hello(self, peer: Peer, max_concurrent_tasks: int) -> None:
        """Take note of what the worker says of itself."""
        self.peer = peer
        self.capacity = self.capacity.sent_hello(max_concurrent_tasks)

    def cancel(self, run_id: str, execution_id: str | None) -> None:
        """Tell the worker to stop an execution; one that said no hello, all that it has of the run."""
        named = execution_id if self.peer.sent_hello else None
        self.send(TaskCancellation(task_id=run_id, execution_id=named))

    def send(self, frame: ControlPlaneFrame) -> None:
        """Queue a frame; it is lost where the connection breaks first."""
        self.outgoing.put_nowait(frame)

    @property
    def has_room(self) -> bool:
        """Whether the worker keeps up with what it is sent."""
        return self.outgoing.qsize() < _OUTGOING

    def snapshot(self, now: int) -> ConnectionSnapshot:
        """What scheduling needs to know of it at ``now``."""
        return ConnectionSnapshot(
            self.number,
            self.peer,
            free=self.capacity.free(len(self.runs), now) if self.has_room else 0,
            last_served=self.last_served,
            settled=self.peer.sent_hello or now >= self.settles_at,
        )

    def drain(self) -> tuple[tuple[str, str], ...]:
        """Empty the line of frames to send; returns the assignments among them."""
        unsent = []
        while not self.outgoing.empty():
            frame = self.outgoing.get_nowait()
            if isinstance(frame, TaskAssignment):
                unsent.append((frame.task_id or "", frame.execution_id or ""))
        return tuple(unsent)


class Connections:
    """Every connection, and the holder of each run in flight.

    ``wake`` is called whenever there may be more to assign.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._connections: dict[int, WorkerConnection] = {}
        self._holders: dict[str, WorkerConnection] = {}
        self._numbers = 0
        self._served = 0

    def connect(self, worker_id: str, key_id: str, now: int) -> WorkerConnection:
        """Add a worker's connection."""
        self._numbers += 1
        connection = WorkerConnection(self._numbers, worker_id, key_id, now)
        self._connections[connection.number] = connection
        self._wake()
        return connection

    def disconnect(self, connection: WorkerConnection) -> Disconnected:
        """Forget a connection, once or again. Its runs stay its worker's until their lease ends."""
        self._connections.pop(connection.number, None)
        unsent = connection.drain()
        never_sent = {run_id for run_id, _ in unsent}
        disconnected = Disconnected(tuple(sorted(connection.runs - never_sent)), unsent)
        for run_id in connection.runs:
            self._holders.pop(run_id, None)
        connection.runs.clear()
        return disconnected

    def superseded(self, connection: WorkerConnection) -> list[WorkerConnection]:
        """Older connections of the same instance: it has one at a time, so those are dead."""
        instance = connection.peer.instance
        return [
            c
            for c in self._connections.values()
            if instance is not None and c.number < connection.number and c.peer == connection.peer
        ]

    def get(self, number: int) -> WorkerConnection | None:
        """The connection with this number, while it is open."""
        return self._connections.get(number)

    def holder(self, run_id: str) -> WorkerConnection | None:
        """The connection that has a run."""
        return self._holders.get(run_id)

    def is_elsewhere(self, run_id: str, connection: WorkerConnection) -> bool:
        """Whether another open connection has a run."""
        return self._holders.get(run_id, connection) is not connection

    def bind(self, run_id: str, connection: WorkerConnection) -> bool:
        """Record that a connection has a run; the last word counts. False where it is gone."""
        if connection.number not in self._connections:
            return False
        self.release(run_id)
        self._holders[run_id] = connection
        connection.runs.add(run_id)
        return True

    def release(self, run_id: str) -> WorkerConnection | None:
        """Record that nobody has a run, and return who had it."""
        connection = self._holders.pop(run_id, None)
        if connection is not None:
            connection.runs.discard(run_id)
        return connection

    def served(self, connection: WorkerConnection) -> None:
        """Record that a connection was given a run: it goes to the end of the line."""
        self._served += 1
        connection.last_served = self._served

    def snapshots(self, now: int) -> list[ConnectionSnapshot]:
        """The open connections at ``now``, the one served longest ago first."""
        order = sorted(self._connections.values(), key=lambda c: (c.last_served, c.number))
        return [c.snapshot(now) for c in order if not c.closing.is_set()]

    def next_ready(self, now: int) -> int | None:
        """When the next pause of a connection ends."""
        pauses = (c.capacity.ready_at for c in self._connections.values())
        return min((at for at in pauses if at > now), default=None)

    def cancel(self, run_id: str, worker_id: str, execution_id: str) -> bool:
        """Tell the worker that has a run to stop it; False where that worker is not connected.

        Every connection with its ID is told. A public worker that connected again said
        nothing of its runs, and the connection before may be dead without a sign of it;
        one that does not have the run takes no notice.
        """
        notified = [c for c in self._connections.values() if c.worker_id == worker_id]
        for connection in notified:
            connection.cancel(run_id, execution_id)
        return bool(notified)

    def drop_key(self, key_id: str) -> None:
        """Close the connections that came with a key which is valid no longer."""
        for connection in self._connections.values():
            if connection.key_id == key_id:
                _log.info("worker %s is sent away: its key was revoked", connection)
                connection.closing.set()
