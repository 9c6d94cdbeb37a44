"""Keeps leases in step with the connections: a run has a lease while no connection certainly has the run."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.controlplane.rules.leases import next_checkpoint, time_to_reconnect
from oz_agent_worker.controlplane.rules.messages import brief
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, RunRecord
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.controlplane.times import micros

from .connections import WorkerConnection
from .services import Services

__all__ = ["LeaseKeeper"]

_log = logging.getLogger(__name__)

#: Leases that are expired in one transaction.
_BATCH: Final = 256


class LeaseKeeper:
    """Tracks connected workers and expires the leases of the others.

    ``grace`` is the length of a lease in microseconds.
    """

    def __init__(self, services: Services) -> None:
        self.grace = micros(services.settings.worker_grace)
        self._services = services
        self._database = services.database
        self._connections = services.connections
        self._clock = services.clock
        self._unstored: set[str] = set()
        self._pending_writes: Counter[str] = Counter()
        self._started = self._checkpoint = services.clock()
        self._faults = FaultLog(_log, "storing leases")

    @property
    def lease_until(self) -> int:
        """The end of a lease that begins at this moment."""
        return self._clock() + self.grace

    def missing_from(self, run_id: str) -> int:
        """When the worker of a run that no connection has will have had its time to connect again.

        Microseconds since the epoch; 0 if it said goodbye. A control plane that starts, or could receive
        nothing for a while, gives every worker that time.
        """
        if self._connections.has_departed(run_id):
            return 0
        lost_at = max(self._started, self._connections.lost_at(run_id) or 0)
        return lost_at + time_to_reconnect(self.grace)

    async def start(self) -> None:
        """Begin a lease for each run that an earlier control plane left in flight."""
        await self._go_on(lease_queries.start)

    async def resume(self) -> None:
        """Continue leases after a time in which no control plane ran. Raises SQLAlchemyError."""
        before = self._checkpoint
        await self._go_on(lease_queries.resume)
        # Leases began later by as much as does not count.
        self._connections.shift_opened(self._checkpoint - before, latest=self._checkpoint)

    async def _go_on(self, operation: Callable[[Connection, int, int], None]) -> None:
        now = self._clock()
        await self._database.write(operation, now, self.grace)
        self._started = self._checkpoint = now

    async def stop(self) -> None:
        """Store the time until which leases ran, for the next control plane."""
        try:
            await self.checkpoint()
        except SQLAlchemyError as error:
            _log.warning("the time until which leases ran cannot be stored: %s", brief(error))

    @property
    def checkpoint_due(self) -> int:
        """The time of the next checkpoint, if any lease runs."""
        return next_checkpoint(self._started, self._checkpoint, self.grace)

    async def checkpoint(self) -> None:
        """Store that a control plane runs at this moment. Raises SQLAlchemyError."""
        now = self._clock()
        await self._database.write(lease_queries.checkpoint, now)
        self._checkpoint = now

    def bind(self, run_id: str, connection: WorkerConnection) -> bool:
        """Record that a connection has a run; False if the connection is gone."""
        bound = self._connections.bind(run_id, connection)
        if not bound:
            self._begin_leases([run_id])
        elif self._pending_writes[run_id]:
            # Another connection lost the run after this one's claim was queued: the lease
            # would begin although this connection has the run.
            self._follow_up(self._database.write(lease_queries.clear, [run_id]), ())
        return bound

    def disconnect(self, connection: WorkerConnection, *, departed: bool = False) -> None:
        """Remove a connection. Leases for its runs are queued at once, before any later write.

        ``departed``: its process ended in good order.
        """
        gone = self._connections.disconnect(connection, self._clock(), departed=departed)
        if gone.unsent:
            self.withdraw(gone.unsent)
        if gone.runs:
            self._begin_leases(gone.runs)

    def withdraw(self, unsent: Collection[ExecutionRef]) -> None:
        """Take back assignments that were never sent."""
        written = self._database.write(queue.withdraw, unsent, self._clock(), self.lease_until)
        self._follow_up(written, [ref.run_id for ref in unsent])

    def _begin_leases(self, run_ids: Collection[str]) -> None:
        written = self._database.write(lease_queries.begin, run_ids, self._clock(), self.lease_until)
        self._follow_up(written, run_ids)

    def _follow_up(self, written: "asyncio.Future[Any]", run_ids: Collection[str]) -> None:
        """Wake the dispatcher when a write is done; keep ``run_ids`` for a retry if it failed."""
        self._pending_writes.update(run_ids)

        def done(future: "asyncio.Future[Any]") -> None:
            self._pending_writes -= Counter(run_ids)
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._faults.failed("failed and will be retried", brief(error), level=logging.ERROR)
            elif not future.cancelled():
                self._faults.works()
            if error is not None or future.cancelled():
                self._unstored.update(run_ids)
            self._services.wake()

        written.add_done_callback(done)

    async def retry_unstored(self) -> None:
        """Begin the leases that could not be stored before. Raises SQLAlchemyError if it fails again."""
        if self._unstored:
            unstored = set(self._unstored)
            without = [run_id for run_id in unstored if self._connections.holder(run_id) is None]
            await self._database.write(lease_queries.begin, without, self._clock(), self.lease_until)
            self._unstored -= unstored
            self._faults.works()

    async def expire_due(self) -> None:
        """End the leases that are due, and with each the execution."""
        while due := await self._database.read(lease_queries.due, self._clock(), _BATCH):
            held = {run.id for run in due if _needs_none(run) and self._connections.holder(run.id)}
            if held:
                await self._database.write(lease_queries.clear, held)
            over = [run.id for run in due if run.id not in held]
            starts = self._services.settings.max_starts
            for expired in await self._database.write(lease_queries.expire, over, self._clock(), starts):
                run, outcome = expired.run, expired.outcome
                holder = self._connections.release(run.id)
                if run.is_public and not run.cancel_requested:
                    # Any connection with its ID may be the process that has it.
                    self._connections.cancel(run.ref, run.worker_id)
                elif holder is not None and not run.is_public:
                    holder.cancel(run.ref)
                if holder is not None and run.state is RunState.PENDING:
                    holder.rejected(self._clock())  # it did not claim what it was sent: send it less
                self._services.subscribers.notify(run.id)
                _log.warning("run %s is %s: %s", run.id, outcome.state, outcome.message)


def _needs_none(run: RunRecord) -> bool:
    """Whether an open connection that has the run makes its lease needless.

    Only a claim ends the lease of a pending run, whose holder may not have read it. A public
    worker that was asked to cancel the run need not answer.
    """
    return run.state is not RunState.PENDING and not (run.is_public and run.cancel_requested)
