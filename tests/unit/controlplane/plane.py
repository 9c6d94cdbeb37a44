"""A control plane without its network: store and gateway under a clock set by hand."""

import asyncio
from pathlib import Path
from typing import Any

from oz_agent_worker.controlplane.gateway.connections import WorkerConnection
from oz_agent_worker.controlplane.gateway.dispatcher import Dispatcher
from oz_agent_worker.controlplane.gateway.frame_handler import FrameHandler
from oz_agent_worker.controlplane.gateway.lease_keeper import LeaseKeeper
from oz_agent_worker.controlplane.gateway.services import Services
from oz_agent_worker.controlplane.rules.ownership import Peer, RunRecord
from oz_agent_worker.controlplane.rules.scheduling import Capacity
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import reports, runs
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.times import micros
from oz_agent_worker.protocol.frames import (
    ControlPlaneFrame,
    ExecutionKey,
    TaskAssignment,
    WorkerFrame,
    WorkerHello,
)

from .staged import StagedDatabase
from .store.support import T0, add_key, new_run


class Plane:
    """``now`` is the time; ``pass_time`` moves it on."""

    def __init__(self, settings: ControlPlaneSettings, database: StagedDatabase) -> None:
        self.settings = settings
        self.now = T0
        self._wakes_at: int | None = 0
        self.database = database
        self.services = Services(settings=settings, database=database, clock=self.clock)
        self.woken = self.services.woken
        self.connections = self.services.connections
        self.subscribers = self.services.subscribers
        self.lease_keeper = LeaseKeeper(self.services)
        self.frame_handler = FrameHandler(self.services, self.lease_keeper)
        self.dispatcher = Dispatcher(self.services, self.lease_keeper)

    @classmethod
    async def open(cls, path: Path, claim_timeout: float = 30.0, max_starts: int = 5) -> "Plane":
        settings = ControlPlaneSettings(
            database_url=f"sqlite:///{path}", claim_timeout=claim_timeout, max_starts=max_starts
        )
        database = await StagedDatabase.open(settings.database_url)
        await database.write(add_key)
        return cls(settings, database)

    async def restarted(self, after: float = 0) -> "Plane":
        """Another control plane on the same database, so many seconds after this one was killed."""
        again = Plane(self.settings, self.database)
        again.now = self.now + micros(after)
        await again.lease_keeper.start()
        return again

    async def close(self) -> None:
        await self.database.close()

    def clock(self) -> int:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += micros(seconds)

    def worker(self, worker_id: str = "w", limit: int = 0) -> WorkerConnection:
        """Connect a worker that says no hello, and is not waited for to say one."""
        connection = self.connections.connect(worker_id, "key", self.now)
        self.services.wake()
        connection.settles_at = self.now
        connection.capacity = Capacity().sent_hello(limit)
        return connection

    async def connect(self, peer: Peer, *executions: ExecutionKey, limit: int = 0) -> WorkerConnection:
        """Connect a worker that says hello."""
        connection = self.connections.connect(peer.worker_id, "key", self.now)
        hello = WorkerHello(
            worker_id=peer.worker_id,
            version="1",
            backend=peer.backend or "",
            instance=peer.instance,
            max_concurrent_tasks=limit,
            executions=list(executions),
        )
        await self.say(connection, hello)
        await self.stored()
        return connection

    async def leave(self, connection: WorkerConnection, *, departed: bool = False) -> None:
        """Break a connection, or let its process end (``departed``); wait until what follows is stored."""
        self.lease_keeper.disconnect(connection, departed=departed)
        await self.stored()

    async def stored(self) -> None:
        """Wait until all that was queued for the database is there."""
        await self.database.write(lambda _: None)

    async def step(self, seconds: float = 0) -> float | None:
        """Let time pass, with the dispatcher at work in it, then let it do what is due."""
        end = self.now + micros(seconds)
        if self.woken.is_set():
            self._wakes_at = self.now
        while self._wakes_at is not None and self._wakes_at < end:
            self.now = max(self.now, self._wakes_at)
            await self._work()
        self.now = end
        return await self._work()

    async def _work(self) -> float | None:
        self.woken.clear()
        delay = await self.dispatcher.step()
        self._wakes_at = None if delay is None else self.now + micros(delay)
        return delay

    async def queue(self, worker_host: str | None = None, **more: Any) -> str:
        """Queue a run; returns its ID."""
        new = new_run(worker_host=worker_host, **more)
        await self.database.write(runs.create, new, {}, self.now)
        return new.id

    async def cancel(self, run_id: str, by: str | None = None) -> RunRecord | None:
        """Ask for a run's cancellation; returns the run as it was. No frame is sent."""
        until = self.lease_keeper.lease_until
        return await self.database.write(reports.cancel, run_id, self.now, until, by)

    async def run(self, run_id: str) -> Run:
        run = await self.database.read(runs.get, run_id)
        assert run is not None
        return run

    async def say(self, connection: WorkerConnection, *frames: WorkerFrame) -> None:
        """Let a worker send frames, and wait until they are applied."""
        await asyncio.gather(*(self.frame_handler.apply(connection, frame) for frame in frames))


def heard(connection: WorkerConnection) -> list[ControlPlaneFrame]:
    """What was sent to a worker since the last look."""
    frames = []
    while not connection.outgoing.empty():
        frames.append(connection.outgoing.get_nowait())
    return frames


def assigned(connection: WorkerConnection) -> list[str]:
    """The runs that were assigned to a worker since the last look."""
    return [f.task_id or "" for f in heard(connection) if isinstance(f, TaskAssignment)]
