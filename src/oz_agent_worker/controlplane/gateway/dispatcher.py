"""Sends runs to workers. It wakes at events and at the next deadline, and never polls."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.rules.leases import was_paused
from oz_agent_worker.controlplane.rules.messages import brief, in_words
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef
from oz_agent_worker.controlplane.rules.scheduling import (
    place_runs,
    reassign,
    reconnected_leases,
    returns_to_queue,
)
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.controlplane.store.keys import hash_token, new_workload_token
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.times import micros

from .assignment_frame import task_assignment
from .connections import WorkerConnection
from .lease_keeper import LeaseKeeper
from .services import Services

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

#: Runs that are assigned in one transaction: bounds the memory for their prompts.
_BATCH: Final = 64
_RETRY_SECONDS: Final = 1.0

#: Stores that runs are sent, at a time and with a deadline to claim them; returns those that may be sent.
_Store = Callable[[Connection, Sequence[queue.Dispatch], int, int], list[Run]]


class Dispatcher:
    """The one task that assigns queued runs, and handles those that are not claimed."""

    def __init__(self, services: Services, lease_keeper: LeaseKeeper) -> None:
        self._services = services
        self._claim_timeout = micros(services.settings.claim_timeout)
        self._database = services.database
        self._connections = services.connections
        self._clock = services.clock
        self._lease_keeper = lease_keeper
        self._due: int | None = None
        self._orphans_due: int | None = None
        self._faults = FaultLog(_log, "dispatching")

    async def run(self) -> None:
        """Dispatch until cancelled. An error is logged, and the step is tried again until it passes."""
        while True:
            self._services.woken.clear()
            try:
                delay = await self.step()
                self._faults.works()
            except Exception as error:  # noqa: BLE001 - without this task no run would be assigned
                self._faults.failed(
                    f"failed with {type(error).__name__}",
                    f"{brief(error)}; tried again every {_RETRY_SECONDS:g} s",
                    level=logging.ERROR,
                    traceback=None if isinstance(error, SQLAlchemyError) else error,
                )
                delay = _RETRY_SECONDS
            await wait_for_event(self._services.woken, delay)

    async def step(self) -> float | None:
        """Do all that is due. Returns the seconds until the next deadline, None if there is none."""
        await self._resume_after_pause()
        await self._lease_keeper.retry_unstored()
        now = self._clock()
        deadlines = await self._database.read(queue.next_deadlines, now)
        self._orphans_due = None
        if deadlines.lease is not None:
            await self._handle_leases(deadlines.lease, now)
        if deadlines.claim is not None and deadlines.claim <= now:
            await self._handle_unclaimed()
        while await self._assign_batch():
            pass
        now = self._clock()
        deadlines = await self._database.read(queue.next_deadlines, now)
        # If the first lease has just begun, the last checkpoint may be long ago.
        checkpoint = max(now, self._lease_keeper.checkpoint_due) if deadlines.lease is not None else None
        times = (*deadlines, checkpoint, self._orphans_due, self._connections.next_ready(now))
        self._due = min((t for t in times if t is not None), default=None)
        # A millisecond more than the difference: a timer that fires early would spin.
        return None if self._due is None else max(0, self._due - now) / 1_000_000 + 0.001

    async def _resume_after_pause(self) -> None:
        """Give workers time to answer after a pause in which their frames could not arrive."""
        late = 0 if self._due is None else self._clock() - self._due
        if was_paused(late):
            _log.warning("dispatcher was stalled for %s; remaining lease time is kept", in_words(late))
            await self._lease_keeper.resume()
            self._due = None

    async def _handle_leases(self, first_end: int, now: int) -> None:
        if first_end <= now:
            await self._lease_keeper.expire_due()
        if self._lease_keeper.checkpoint_due <= now:
            await self._lease_keeper.checkpoint()
        await self._reassign_orphans()

    async def _reassign_orphans(self) -> None:
        """Send again what was sent to closed connections, to peers that cannot start it twice.

        The leases of claimed runs whose public worker may have connected again become longer.
        """
        now = self._clock()
        snapshots = self._connections.snapshots(now)
        if not snapshots:
            return
        worker_ids = {s.peer.worker_id for s in snapshots}
        orphans = await self._database.read(lease_queries.orphans, worker_ids)
        alone = [run for run in orphans if self._connections.holder(run.id) is None]
        returned = [run for run in alone if not self._connections.has_departed(run.id)]
        longer = reconnected_leases(returned, snapshots, self._lease_keeper.grace)
        if longer:
            await self._database.write(lease_queries.extend, longer)
        missing_from = {run.id: self._lease_keeper.missing_from(run.id) for run in alone}
        missing = {run_id for run_id, since in missing_from.items() if since <= now}
        self._orphans_due = min((t for t in missing_from.values() if t > now), default=None)
        placements = reassign(alone, snapshots, now, missing)
        resent = {p.run_id: c for p in placements if (c := self._connections.get(p.connection_id))}
        if resent:
            await self._send(resent, partial(queue.send_again, grace=self._lease_keeper.grace))

    async def _handle_unclaimed(self) -> None:
        """Queue unclaimed runs again if they were certainly not started; begin a lease for the others."""
        now = self._clock()
        back: list[str] = []
        wait: list[str] = []
        for run in await self._database.read(queue.unclaimed, now):
            holder = self._connections.holder(run.id)
            returns = returns_to_queue(holder.peer if holder else None, resent=run.resent)
            (back if returns else wait).append(run.id)
        if wait:
            _log.debug("%d runs are not claimed yet: waiting longer", len(wait))
            deadline, lease_until = now + self._claim_timeout, self._lease_keeper.lease_until
            await self._database.write(queue.extend_deadline, wait, now, deadline, lease_until)
        for run in await self._database.write(queue.return_unclaimed, back, now) if back else ():
            holder = self._connections.release(run.id)
            if holder is not None:
                holder.rejected(now)
            _log.warning("run %s was not claimed by worker %s, queued again", run.id, run.worker_id)

    async def _assign_batch(self) -> bool:
        """Assign one batch of queued runs. Returns whether there may be more to assign."""
        now = self._clock()
        available = [s for s in self._connections.snapshots(now) if s.free != 0]
        if not available:
            return False
        worker_ids = {s.peer.worker_id for s in available}
        queued = await self._database.read(queue.queued, now, worker_ids, _BATCH)
        placements = place_runs(queued, available)
        chosen = {p.run_id: c for p in placements if (c := self._connections.get(p.connection_id))}
        if chosen:
            await self._send(chosen, queue.assign)
        return bool(chosen)

    async def _send(self, chosen: dict[str, WorkerConnection], store: _Store) -> None:
        """Send runs to the connections chosen for them, if ``store`` still permits it."""
        tokens: dict[str, Secret] = {run_id: new_workload_token() for run_id in chosen}
        dispatches = [queue.Dispatch(r, c.peer, hash_token(tokens[r])) for r, c in chosen.items()]
        peers = {d.run_id: d.peer for d in dispatches}
        now = self._clock()
        for run in await self._database.write(store, dispatches, now, now + self._claim_timeout):
            connection = chosen[run.id]
            if not self._connections.bind(run.id, connection):
                self._lease_keeper.withdraw([run.ref])
                continue
            if connection.peer != peers[run.id]:  # its hello arrived meanwhile
                self._database.write(lease_queries.set_owner, [run.id], connection.peer)
            self._connections.served(connection)
            connection.refused -= {ExecutionRef(run.id), run.ref}
            connection.send(task_assignment(run, tokens[run.id], self._services.settings))
            _log.info("run %s assigned to worker %s", run.id, connection)
