"""Hands runs to workers: wakes at events and at the nearest deadline, never to look around."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.core.secret import Secret

from .assignment import task_assignment
from .dispatch import Assignment, plan
from .hub import Connection, Hub
from .settings import ControlPlaneSettings
from .store import queue
from .store.database import Database
from .times import Clock, micros
from .tokens import hash_token, new_workload_token

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

#: Runs assigned in one transaction: bounds the memory that their prompts take.
_BATCH: Final = 64
_RETRY_SECONDS: Final = 1.0


class Dispatcher:
    """The one task that moves runs out of the queue, and back into it when unclaimed."""

    def __init__(
        self, settings: ControlPlaneSettings, database: Database, hub: Hub, clock: Clock, woken: asyncio.Event
    ) -> None:
        self._settings = settings
        self._database = database
        self._hub = hub
        self._clock = clock
        self._woken = woken

    async def run(self) -> None:
        """Dispatch until cancelled. What fails is logged and tried again."""
        while True:
            self._woken.clear()
            try:
                delay = await self.step()
            except SQLAlchemyError as error:
                _log.error("the queue cannot be read or written, next try in 1 s: %s", error)
                delay = _RETRY_SECONDS
            except Exception:  # noqa: BLE001 - the task must not end
                # A control plane that takes runs and hands out none helps nobody.
                _log.exception("dispatching failed, next try in 1 s")
                delay = _RETRY_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), delay)

    async def step(self) -> float | None:
        """Do all that is due. Returns the seconds until something falls due by itself, or None."""
        await self._take_back()
        while await self._hand_out():
            pass
        now = self._clock()
        times = [await self._database.read(queue.next_deadline, now), self._hub.next_ready(now)]
        due = min((t for t in times if t is not None), default=None)
        # A millisecond more than the difference: a timer that fires early would spin.
        return None if due is None else max(0, due - now) / 1_000_000 + 0.001

    async def _take_back(self) -> None:
        now = self._clock()
        due = await self._database.read(queue.next_deadline, now)
        if due is None or due > now:
            return
        for returned in await self._database.write(queue.expire_claims, now):
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
        chosen = [(a, c) for a in plan(waiting, openings) if (c := self._hub.get(a.connection_id))]
        if not chosen:
            return False
        await self._assign(chosen)
        return True

    async def _assign(self, chosen: list[tuple[Assignment, Connection]]) -> None:
        tokens: dict[str, Secret] = {a.run_id: new_workload_token() for a, _ in chosen}
        connections = {a.run_id: connection for a, connection in chosen}
        handouts = [
            queue.Handout(run_id, connection.worker_id, hash_token(tokens[run_id]))
            for run_id, connection in connections.items()
        ]
        now = self._clock()
        deadline = now + micros(self._settings.claim_timeout)
        for run in await self._database.write(queue.assign, handouts, now, deadline):
            connection = connections[run.id]
            self._hub.bind(run.id, connection)
            self._hub.served(connection)
            connection.send(task_assignment(run, tokens[run.id], self._settings))
            _log.info("run %s assigned to worker %s", run.id, connection)
