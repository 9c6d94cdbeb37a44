"""Hands runs to workers: wakes at events and at the nearest deadline, never to look around."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.rules.leases import was_paused
from oz_agent_worker.controlplane.rules.messages import brief, in_words
from oz_agent_worker.controlplane.rules.scheduling import place_runs, reassign, returns_to_queue
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.store.tokens import hash_token, new_workload_token
from oz_agent_worker.controlplane.times import Clock, micros

from .assignment_frame import task_assignment
from .connections import Connections, WorkerConnection
from .lease_keeper import LeaseKeeper

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

#: Runs assigned in one transaction: bounds the memory that their prompts take.
_BATCH: Final = 64
_RETRY_SECONDS: Final = 1.0

#: Stores that runs are sent out, at a time and with a deadline; returns those that still may be.
_Store = Callable[[Connection, Sequence[queue.Dispatch], int, int], list[Run]]


class Dispatcher:
    """The one task that moves runs out of the queue, and looks after those that are not answered."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        database: Database,
        connections: Connections,
        lease_keeper: LeaseKeeper,
        clock: Clock,
        woken: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._claim_timeout = micros(settings.claim_timeout)
        self._database = database
        self._connections = connections
        self._lease_keeper = lease_keeper
        self._clock = clock
        self._woken = woken
        self._due: int | None = None

    async def run(self) -> None:
        """Dispatch until cancelled. What fails is logged and tried again."""
        while True:
            self._woken.clear()
            try:
                delay = await self.step()
            except SQLAlchemyError as error:
                _log.error("the queue cannot be read or written, next try in 1 s: %s", brief(error))
                delay = _RETRY_SECONDS
            except Exception:  # noqa: BLE001 - the task must not end
                # A control plane that takes runs and hands out none helps nobody.
                _log.exception("dispatching failed, next try in 1 s")
                delay = _RETRY_SECONDS
            await wait_for_event(self._woken, delay)

    async def step(self) -> float | None:
        """Do all that is due. Returns the seconds until something falls due by itself, or None."""
        await self._resume_after_a_pause()
        await self._lease_keeper.settle()
        now = self._clock()
        deadlines = await self._database.read(queue.next_deadlines, now)
        if deadlines.lease is not None and deadlines.lease <= now:
            await self._lease_keeper.expire_due()
        if deadlines.lease is not None:
            if self._lease_keeper.checkpoint_due <= now:
                await self._lease_keeper.checkpoint()
            await self._reassign_orphans()
        if deadlines.claim is not None and deadlines.claim <= now:
            await self._handle_unclaimed()
        while await self._assign_batch():
            pass
        now = self._clock()
        deadlines = await self._database.read(queue.next_deadlines, now)
        # Where the first lease has just begun, the last checkpoint may be long ago.
        checkpoint = max(now, self._lease_keeper.checkpoint_due) if deadlines.lease is not None else None
        times = [t for t in (deadlines.next, checkpoint, self._connections.next_ready(now)) if t is not None]
        self._due = min(times, default=None)
        # A millisecond more than the difference: a timer that fires early would spin.
        return None if self._due is None else max(0, self._due - now) / 1_000_000 + 0.001

    async def _resume_after_a_pause(self) -> None:
        """Where nobody listened, workers cannot have answered: give them the time to."""
        late = 0 if self._due is None else self._clock() - self._due
        if was_paused(late):
            _log.warning("nobody listened for %s: leases go on with what they had left", in_words(late))
            await self._lease_keeper.resume()
            self._due = None

    async def _reassign_orphans(self) -> None:
        """Send again, to whoever cannot start it twice, what was sent to connections that are gone."""
        now = self._clock()
        connections = self._connections.snapshots(now)
        if not connections:
            return
        worker_ids = {s.peer.worker_id for s in connections}
        orphans = await self._database.read(lease_queries.orphans, worker_ids, now)
        found = reassign([o for o in orphans if self._connections.holder(o.run_id) is None], connections)
        pairs = [(r, c) for r in found if (c := self._connections.get(r.connection_id))]
        kept = [
            r.run_id
            for r, connection in pairs
            if not r.send and self._lease_keeper.hold(r.run_id, connection)
        ]
        if kept:
            await self._database.write(lease_queries.clear, kept)
        again = {r.run_id: connection for r, connection in pairs if r.send}
        if again:
            await self._send(again, partial(queue.send_again, grace=self._lease_keeper.grace))

    async def _handle_unclaimed(self) -> None:
        """Queue again what was not claimed, where that tells that it was not started, or let a lease run."""
        now = self._clock()
        back: list[str] = []
        wait: list[str] = []
        for run in await self._database.read(queue.unclaimed, now):
            holder = self._connections.holder(run.run_id)
            returns = returns_to_queue(holder.peer if holder else None, resent=run.resent)
            (back if returns else wait).append(run.run_id)
        if wait:
            _log.debug("%d runs are not claimed yet: waiting on", len(wait))
            deadline = now + self._claim_timeout
            await self._database.write(
                queue.extend_deadline, wait, now, deadline, self._lease_keeper.lease_until
            )
        for returned in await self._database.write(queue.return_unclaimed, back, now) if back else ():
            connection = self._connections.release(returned.run_id)
            if connection is not None:
                connection.capacity = connection.capacity.rejected(len(connection.runs), now)
            _log.warning(
                "run %s was not claimed by worker %s, queued again", returned.run_id, returned.worker_id
            )

    async def _assign_batch(self) -> bool:
        """Assign one batch. Returns whether there may be more to assign."""
        now = self._clock()
        available = [c for c in self._connections.snapshots(now) if c.free != 0]
        if not available:
            return False
        worker_ids = {c.peer.worker_id for c in available}
        queued = await self._database.read(queue.queued, now, worker_ids, _BATCH)
        placements = place_runs(queued, available)
        chosen = {p.run_id: c for p in placements if (c := self._connections.get(p.connection_id))}
        if not chosen:
            return False
        await self._send(chosen, queue.assign)
        return True

    async def _send(self, chosen: dict[str, WorkerConnection], store: _Store) -> None:
        """Send runs to the connections chosen for them, as far as ``store`` still finds it right."""
        tokens: dict[str, Secret] = {run_id: new_workload_token() for run_id in chosen}
        peers = {run_id: connection.peer for run_id, connection in chosen.items()}
        dispatches = [
            queue.Dispatch(run_id, peer, hash_token(tokens[run_id])) for run_id, peer in peers.items()
        ]
        now = self._clock()
        for run in await self._database.write(store, dispatches, now, now + self._claim_timeout):
            connection = chosen[run.id]
            if not self._connections.bind(run.id, connection):
                self._lease_keeper.withdraw([(run.id, run.execution_id)])
                continue
            if connection.peer != peers[run.id]:  # it said hello meanwhile
                self._database.write(lease_queries.name_owner, [run.id], connection.peer)
            self._connections.served(connection)
            connection.refused -= {(run.id, None), (run.id, run.execution_id)}
            connection.send(task_assignment(run, tokens[run.id], self._settings))
            _log.info("run %s assigned to worker %s", run.id, connection)
