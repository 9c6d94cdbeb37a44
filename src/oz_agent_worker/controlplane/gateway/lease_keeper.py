"""Keeps leases in step with the connections: a run's lease runs while no connection certainly has it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.controlplane.rules.leases import next_checkpoint
from oz_agent_worker.controlplane.rules.messages import brief
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.times import Clock, micros

from .connections import Connections, WorkerConnection
from .subscribers import Subscribers

__all__ = ["LeaseKeeper"]

_log = logging.getLogger(__name__)

#: Runs given up in one transaction.
_BATCH: Final = 256


class LeaseKeeper:
    """Who is there, and what becomes of the runs of those who are not.

    ``wake`` is called when there may be something to do for a run; ``grace`` is in microseconds.
    """

    def __init__(
        self,
        settings: ControlPlaneSettings,
        database: Database,
        connections: Connections,
        subscribers: Subscribers,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self.grace = micros(settings.worker_grace)
        self._max_starts = settings.max_starts
        self._database = database
        self._connections = connections
        self._subscribers = subscribers
        self._clock = clock
        self._wake = wake
        self._owed: set[str] = set()
        self._underway: Counter[str] = Counter()
        self._started = self._checkpoint = clock()

    @property
    def lease_until(self) -> int:
        """Until when a worker that leaves at this moment is waited for."""
        return self._clock() + self.grace

    async def start(self) -> None:
        """Wait for the workers of the runs that an earlier control plane left in flight."""
        self._started = self._checkpoint = self._clock()
        await self._database.write(lease_queries.start, self._started, self.grace)

    async def stop(self) -> None:
        """Note until when leases ran, for the next control plane."""
        try:
            await self._database.write(lease_queries.checkpoint, self._clock())
        except SQLAlchemyError as error:
            _log.warning("leases ran until now, which cannot be stored: %s", brief(error))

    @property
    def checkpoint_due(self) -> int:
        """When it is to be stored next that somebody listens, where leases run."""
        return next_checkpoint(self._started, self._checkpoint, self.grace)

    async def checkpoint(self) -> None:
        """Store that somebody listens. Raises SQLAlchemyError."""
        now = self._clock()
        await self._database.write(lease_queries.checkpoint, now)
        self._checkpoint = now

    async def resume(self) -> None:
        """Go on after a time in which nobody listened, as after a start. Raises SQLAlchemyError."""
        now = self._clock()
        await self._database.write(lease_queries.resume, now, self.grace)
        self._started = self._checkpoint = now

    def hold(self, run_id: str, connection: WorkerConnection) -> bool:
        """A connection's worker has a run. False where the connection went meanwhile."""
        held = self._connections.bind(run_id, connection)
        if not held:
            self._lost([run_id])
        elif self._underway[run_id]:
            # Another connection lost it after this one's word, which ended its lease, was queued.
            self._follow_up(self._database.write(lease_queries.clear, [run_id]), ())
        return held

    def left(self, connection: WorkerConnection) -> None:
        """A connection is gone. What follows for its runs is queued at once, before any later write."""
        left = self._connections.disconnect(connection)
        if left.unsent:
            self.withdraw(left.unsent)
        if left.runs:
            self._lost(left.runs)

    def withdraw(self, sendings: Collection[tuple[str, str]]) -> None:
        """Assignments (run and execution ID) were not sent, nor will they be."""
        written = self._database.write(queue.withdraw, sendings, self._clock(), self.lease_until)
        self._follow_up(written, [run_id for run_id, _ in sendings])

    def _lost(self, run_ids: Collection[str]) -> None:
        written = self._database.write(lease_queries.begin, run_ids, self._clock(), self.lease_until)
        self._follow_up(written, run_ids)

    def _follow_up(self, written: "asyncio.Future[Any]", run_ids: Collection[str]) -> None:
        self._underway.update(run_ids)

        def done(future: "asyncio.Future[Any]") -> None:
            self._underway -= Counter(run_ids)
            if future.cancelled():
                self._owed.update(run_ids)
            elif (error := future.exception()) is not None:
                _log.error("leases cannot be stored, to be tried again: %s", brief(error))
                self._owed.update(run_ids)
            self._wake()

        written.add_done_callback(done)

    async def settle(self) -> None:
        """Store what could not be stored before. Raises SQLAlchemyError where it still cannot."""
        if self._owed:
            owed = set(self._owed)
            alone = [run_id for run_id in owed if self._connections.holder(run_id) is None]
            await self._database.write(lease_queries.begin, alone, self._clock(), self.lease_until)
            self._owed -= owed

    async def expire_due(self) -> None:
        """End the leases that have fallen due."""
        while due := await self._database.read(lease_queries.due, self._clock(), _BATCH):
            kept = [lease.run_id for lease in due if self._is_kept(lease)]
            if kept:
                await self._database.write(lease_queries.clear, kept)
            over = [lease.run_id for lease in due if lease.run_id not in kept]
            for ended in await self._database.write(lease_queries.end, over, self._clock(), self._max_starts):
                self._let_go(ended)
                self._subscribers.notify(ended.run_id)
                _log.warning("run %s is %s: %s", ended.run_id, ended.end.state, ended.end.message)

    def _is_kept(self, lease: lease_queries.DueLease) -> bool:
        """Whether somebody is there after all who has answered."""
        return lease.state is not RunState.PENDING and self._connections.holder(lease.run_id) is not None

    def _let_go(self, ended: lease_queries.Ended) -> None:
        """Free the connection that was sent what is given up: it is to stop that, and be given less."""
        holder = self._connections.release(ended.run_id)
        if holder is not None:
            holder.cancel(ended.run_id, ended.execution_id)
            holder.capacity = holder.capacity.rejected(len(holder.runs), self._clock())
