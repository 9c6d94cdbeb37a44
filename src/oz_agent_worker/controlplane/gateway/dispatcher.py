"""Hands runs to workers: wakes at events and at the nearest deadline, never to look around."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection as SqlConnection
from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.rules.leases import was_paused
from oz_agent_worker.controlplane.rules.messages import brief, in_words
from oz_agent_worker.controlplane.rules.reassignment import rescue, returns_to_queue
from oz_agent_worker.controlplane.rules.scheduling import plan
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import lease_queries, queue
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.controlplane.store.tokens import hash_token, new_workload_token
from oz_agent_worker.controlplane.times import Clock, micros

from .assignment_frame import task_assignment
from .connections import Connection, Connections
from .lease_keeper import LeaseKeeper

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

#: Runs assigned in one transaction: bounds the memory that their prompts take.
_BATCH: Final = 64
_RETRY_SECONDS: Final = 1.0

#: Stores that runs are sent out, at a time and with a deadline; returns those that still may be.
_Store = Callable[[SqlConnection, Sequence[queue.Dispatch], int, int], list[Run]]


class Dispatcher:
    """The one task that moves runs out of the queue, and looks after those that are not answered."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        database: Database,
        hub: Connections,
        attendance: LeaseKeeper,
        clock: Clock,
        woken: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._claim_timeout = micros(settings.claim_timeout)
        self._database = database
        self._hub = hub
        self._attendance = attendance
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
        await self._attendance.settle()
        now = self._clock()
        agenda = await self._database.read(queue.agenda, now)
        if agenda.lease is not None and agenda.lease <= now:
            await self._attendance.give_up()
        if agenda.lease is not None:
            if self._attendance.checkpoint_due <= now:
                await self._attendance.checkpoint()
            await self._rescue()
        if agenda.claim is not None and agenda.claim <= now:
            await self._look_after_unclaimed()
        while await self._hand_out():
            pass
        now = self._clock()
        agenda = await self._database.read(queue.agenda, now)
        # Where the first lease has just begun, the last checkpoint may be long ago.
        checkpoint = max(now, self._attendance.checkpoint_due) if agenda.lease is not None else None
        times = [t for t in (agenda.next, checkpoint, self._hub.next_ready(now)) if t is not None]
        self._due = min(times, default=None)
        # A millisecond more than the difference: a timer that fires early would spin.
        return None if self._due is None else max(0, self._due - now) / 1_000_000 + 0.001

    async def _resume_after_a_pause(self) -> None:
        """Where nobody listened, workers cannot have answered: give them the time to."""
        late = 0 if self._due is None else self._clock() - self._due
        if was_paused(late):
            _log.warning("nobody listened for %s: leases go on with what they had left", in_words(late))
            await self._attendance.resume()
            self._due = None

    async def _rescue(self) -> None:
        """Send again, to whoever cannot start it twice, what was sent to connections that are gone."""
        now = self._clock()
        stations = self._hub.stations(now)
        if not stations:
            return
        worker_ids = {s.peer.worker_id for s in stations}
        orphans = await self._database.read(lease_queries.orphans, worker_ids, now)
        found = rescue([o for o in orphans if self._hub.holder(o.run_id) is None], stations)
        pairs = [(r, c) for r in found if (c := self._hub.get(r.connection_id))]
        kept = [
            r.run_id for r, connection in pairs if not r.send and self._attendance.hold(r.run_id, connection)
        ]
        if kept:
            await self._database.write(lease_queries.clear, kept)
        again = {r.run_id: connection for r, connection in pairs if r.send}
        if again:
            await self._send(again, partial(queue.send_again, grace=self._attendance.grace))

    async def _look_after_unclaimed(self) -> None:
        """Queue again what was not claimed, where that tells that it was not started, or let a lease run."""
        now = self._clock()
        back: list[str] = []
        wait: list[str] = []
        for run in await self._database.read(queue.unclaimed, now):
            holder = self._hub.holder(run.run_id)
            returns = returns_to_queue(holder.peer if holder else None, resent=run.resent)
            (back if returns else wait).append(run.run_id)
        if wait:
            _log.debug("%d runs are not claimed yet: waiting on", len(wait))
            deadline = now + self._claim_timeout
            await self._database.write(
                queue.extend_deadline, wait, now, deadline, self._attendance.lease_until
            )
        for returned in await self._database.write(queue.return_unclaimed, back, now) if back else ():
            connection = self._hub.release(returned.run_id)
            if connection is not None:
                connection.capacity = connection.capacity.rejected(len(connection.runs), now)
            _log.warning(
                "run %s was not claimed by worker %s, queued again", returned.run_id, returned.worker_id
            )

    async def _hand_out(self) -> bool:
        """Assign one batch. Returns whether there may be more to assign."""
        now = self._clock()
        openings = self._hub.openings(now)
        if not openings:
            return False
        worker_ids = {o.worker_id for o in openings}
        waiting = await self._database.read(queue.waiting, now, worker_ids, _BATCH)
        plans = plan(waiting, openings)
        chosen = {a.run_id: c for a in plans if (c := self._hub.get(a.connection_id))}
        if not chosen:
            return False
        await self._send(chosen, queue.assign)
        return True

    async def _send(self, chosen: dict[str, Connection], store: _Store) -> None:
        """Send runs to the connections chosen for them, as far as ``store`` still finds it right."""
        tokens: dict[str, Secret] = {run_id: new_workload_token() for run_id in chosen}
        peers = {run_id: connection.peer for run_id, connection in chosen.items()}
        handouts = [
            queue.Dispatch(run_id, peer, hash_token(tokens[run_id])) for run_id, peer in peers.items()
        ]
        now = self._clock()
        for run in await self._database.write(store, handouts, now, now + self._claim_timeout):
            connection = chosen[run.id]
            if not self._hub.bind(run.id, connection):
                self._attendance.withdraw([(run.id, run.execution_id)])
                continue
            if connection.peer != peers[run.id]:  # it said hello meanwhile
                self._database.write(lease_queries.name_owner, [run.id], connection.peer)
            self._hub.served(connection)
            connection.refused -= {(run.id, None), (run.id, run.execution_id)}
            connection.send(task_assignment(run, tokens[run.id], self._settings))
            _log.info("run %s assigned to worker %s", run.id, connection)
