"""What frames from workers do.

A frame's database operation is queued in the order of arrival, and what follows from it
(an acknowledgement, a wake-up) happens once it is committed. Frames need not wait for
one another's commit, so that a worker's burst shares a few.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.controlplane.rules.messages import brief, one_line, storable
from oz_agent_worker.controlplane.rules.outcome_mapping import outcome_of
from oz_agent_worker.controlplane.rules.ownership import Peer
from oz_agent_worker.controlplane.rules.run_states import TERMINAL
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from oz_agent_worker.controlplane.store import lease_queries, logs, queue, reports
from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.times import Clock
from oz_agent_worker.protocol.frames import (
    Ack,
    FrameError,
    TaskClaimed,
    TaskCompleted,
    TaskFailed,
    TaskLog,
    TaskRejected,
    WorkerFrame,
    WorkerHello,
    decode_worker_frame,
)

from .connections import Connections, WorkerConnection
from .lease_keeper import LeaseKeeper
from .subscribers import Subscribers

__all__ = ["FrameHandler"]

_log = logging.getLogger(__name__)

#: Frames of one connection that may wait for their commit.
_WINDOW: Final = 256
#: A frame longer than this is stored before the next is read: bounds what waits in memory.
_LARGE: Final = 256 * 1024
#: Beyond what any run prints, and well within a database's integers.
_LARGEST_OFFSET: Final = 2**53
#: Of what a worker says of itself, so many characters are kept.
_LONGEST_NAME: Final = 512


class FrameHandler:
    """Applies workers' frames to the store and the connections."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        database: Database,
        connections: Connections,
        lease_keeper: LeaseKeeper,
        subscribers: Subscribers,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._connections = connections
        self._lease_keeper = lease_keeper
        self._subscribers = subscribers
        self._clock = clock
        self._wake = wake

    async def consume(
        self, connection: WorkerConnection, receive: Callable[[], Awaitable[str | bytes]]
    ) -> None:
        """Apply frames until ``receive`` raises, and finish what has begun before that goes on."""
        window = asyncio.Semaphore(_WINDOW)
        tasks: set[asyncio.Task[None]] = set()

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            window.release()

        try:
            await self._send_cancellations(connection)
            while True:
                raw = await receive()
                try:
                    frame = decode_worker_frame(raw)
                except FrameError as error:
                    _log.warning("worker %s sent a frame that is left out: %s", connection, error)
                    continue
                await window.acquire()
                task = asyncio.create_task(self._apply_or_close(connection, frame))
                tasks.add(task)
                task.add_done_callback(done)
                if len(raw) > _LARGE:
                    await asyncio.wait((task,))
        finally:
            await asyncio.gather(*tasks)

    async def _apply_or_close(self, connection: WorkerConnection, frame: WorkerFrame) -> None:
        """Apply a frame; whatever goes wrong with it ends the connection and nothing else.

        Its worker connects again then, and repeats what was not acknowledged.
        """
        try:
            await self.apply(connection, frame)
        except SQLAlchemyError as error:
            _log.error("%s frame of worker %s could not be stored: %s", frame.kind, connection, brief(error))
            connection.closing.set()
        except Exception:  # noqa: BLE001 - the process must not end
            _log.exception("%s frame of worker %s could not be applied", frame.kind, connection)
            connection.closing.set()

    async def apply(self, connection: WorkerConnection, frame: WorkerFrame) -> None:
        """Apply one frame. Its write is queued before the first suspension."""
        match frame:
            case TaskClaimed():
                await self._claimed(connection, frame)
            case TaskRejected():
                await self._rejected(connection, frame)
            case TaskCompleted() | TaskFailed():
                await self._ended(connection, frame)
            case TaskLog():
                await self._output(connection, frame)
            case WorkerHello():
                await self._handle_hello(connection, frame)
            case _:
                pass  # a heartbeat: that it came is all it says

    async def _handle_hello(self, connection: WorkerConnection, frame: WorkerHello) -> None:
        instance = storable(frame.instance or "", _LONGEST_NAME) or None
        peer = Peer(connection.worker_id, storable(frame.backend, _LONGEST_NAME), instance)
        connection.accept_hello(peer, frame.max_concurrent_tasks)
        for older in self._connections.superseded(connection):
            _log.info("worker %s is dead: the same instance connected as %s", older, connection)
            older.closing.set()
            self._lease_keeper.left(older)
        if connection.runs:
            self._database.write(lease_queries.name_owner, tuple(connection.runs), peer)
        listed = [(e, self._write_claim(connection, e.task_id, e.execution_id)) for e in frame.executions]
        held = 0
        for execution, written in listed:
            claim = await written
            held += claim.accepted
            self._settle_claim(connection, execution.task_id, execution.execution_id, claim)
        _log.info(
            "worker %s said hello: version %s, backend %s, at most %s tasks, holds %d runs",
            connection,
            one_line(frame.version) if isinstance(frame.version, str) else "unknown",
            one_line(frame.backend),
            frame.max_concurrent_tasks or "any number of",
            held,
        )
        self._wake()

    async def _claimed(self, connection: WorkerConnection, frame: TaskClaimed) -> None:
        claim = await self._write_claim(connection, frame.task_id, frame.execution_id)
        self._settle_claim(connection, frame.task_id, frame.execution_id, claim)
        if not claim.accepted:
            return
        _log.info("run %s claimed by worker %s", frame.task_id, connection)
        before = connection.capacity
        connection.capacity = before.claimed(len(connection.runs))
        if connection.capacity is not before:
            self._wake()

    def _write_claim(
        self, connection: WorkerConnection, run_id: str, execution_id: str | None
    ) -> "asyncio.Future[reports.ClaimResult]":
        return self._database.write(
            reports.claim,
            run_id,
            execution_id,
            connection.peer,
            self._clock(),
            elsewhere=self._connections.is_elsewhere(run_id, connection),
        )

    def _settle_claim(
        self, connection: WorkerConnection, run_id: str, execution_id: str | None, claim: reports.ClaimResult
    ) -> None:
        if claim.accepted:
            connection.refused.discard((run_id, execution_id))
            self._lease_keeper.hold(run_id, connection)
            self._subscribers.notify(run_id)
            if claim.cancel:
                connection.cancel(run_id, execution_id)
            return
        # A worker that starts claims once more what it finds ended, and was told of long ago.
        level = logging.INFO if claim.ended else logging.WARNING
        _log.log(level, "claim of run %s by worker %s refused: %s", one_line(run_id), connection, claim.why)
        if claim.cancel:
            self._refuse(connection, run_id, execution_id)

    def _refuse(self, connection: WorkerConnection, run_id: str, execution_id: str | None) -> None:
        """Stop what has no right to run.

        A peer that cannot tell executions apart would stop the current one with it, so
        where it has that too, it is told nothing.
        """
        connection.refused.add((run_id, execution_id))
        if connection.peer.sent_hello or self._connections.holder(run_id) is not connection:
            connection.cancel(run_id, execution_id)

    async def _rejected(self, connection: WorkerConnection, frame: TaskRejected) -> None:
        if self._connections.holder(frame.task_id) not in (None, connection):
            _log.warning(
                "rejection of run %s by worker %s ignored: another has it",
                one_line(frame.task_id),
                connection,
            )
            return
        returned = await self._database.write(
            queue.reject,
            frame.task_id,
            frame.execution_id,
            connection.peer,
            storable(frame.reason),
            self._clock(),
            self._lease_keeper.lease_until,
        )
        if not returned:
            _log.warning(
                "rejection of run %s by worker %s ignored: not its run", one_line(frame.task_id), connection
            )
            return
        _log.info("run %s rejected by worker %s", frame.task_id, connection)
        self._connections.release(frame.task_id)
        connection.capacity = connection.capacity.rejected(len(connection.runs), self._clock())
        self._subscribers.notify(frame.task_id)
        self._wake()

    async def _ended(self, connection: WorkerConnection, frame: TaskCompleted | TaskFailed) -> None:
        ending = outcome_of(frame)
        finish = await self._database.write(
            reports.finish,
            frame.task_id,
            frame.execution_id,
            connection.peer,
            ending,
            self._clock(),
            refused=(frame.task_id, frame.execution_id) in connection.refused,
        )
        if frame.ack_id is not None:
            connection.send(Ack(ack_id=frame.ack_id))
        if finish.changed:
            _log.info("run %s ended %s at worker %s", frame.task_id, ending.state, connection)
        else:
            _log.info(
                "report of run %s by worker %s changes nothing: %s",
                one_line(frame.task_id),
                connection,
                finish.why,
            )
        if finish.state in TERMINAL:
            self._connections.release(frame.task_id)
        connection.capacity = connection.capacity.ended(len(connection.runs))
        self._subscribers.notify(frame.task_id)
        self._wake()

    async def _output(self, connection: WorkerConnection, frame: TaskLog) -> None:
        if not 0 <= frame.offset <= _LARGEST_OFFSET:
            _log.warning(
                "output of run %s by worker %s ignored: its offset", one_line(frame.task_id), connection
            )
            return
        piece = logs.Piece(frame.offset, frame.text.encode("utf-8", "replace"))
        appended = await self._database.write(
            logs.append,
            frame.task_id,
            frame.execution_id,
            connection.peer,
            piece,
            retention=self._settings.log_retention_bytes,
            now=self._clock(),
        )
        if appended.held and self._connections.holder(frame.task_id) is not connection:
            self._lease_keeper.hold(frame.task_id, connection)
        if appended.refused and (frame.task_id, frame.execution_id) not in connection.refused:
            _log.warning("output of run %s by worker %s refused", one_line(frame.task_id), connection)
            self._refuse(connection, frame.task_id, frame.execution_id)
        if appended.stored:
            self._subscribers.notify(frame.task_id)

    async def _send_cancellations(self, connection: WorkerConnection) -> None:
        """Repeat the cancellations that this worker may not have received."""
        for run_id in await self._database.read(reports.pending_cancellations, connection.worker_id):
            connection.cancel(run_id, None)
