"""Applies the frames of workers to the store.

The database operation of a frame is queued in the order of arrival. What follows from it, such
as an acknowledgement or a wake-up, happens once the operation is committed. Frames do not wait
for each other's commit, so a burst of them shares a few commits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.controlplane.rules.messages import brief, one_line, storable
from oz_agent_worker.controlplane.rules.outcome_mapping import outcome_of
from oz_agent_worker.controlplane.rules.ownership import ExecutionRef, Peer
from oz_agent_worker.controlplane.rules.run_states import TERMINAL
from oz_agent_worker.controlplane.store import lease_queries, logs, queue, reports
from oz_agent_worker.protocol.frames import (
    Ack,
    ExecutionKey,
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

from .connections import WorkerConnection
from .lease_keeper import LeaseKeeper
from .services import Services

__all__ = ["FrameHandler"]

_log = logging.getLogger(__name__)

#: Frames of one connection that may wait for their commit.
_WINDOW: Final = 256
#: A frame with more characters is stored before the next one is read: bounds what waits in memory.
_LARGE: Final = 256 * 1024
#: More bytes than any run prints, and well within the integers of a database.
_LARGEST_OFFSET: Final = 2**53
#: Longest backend or instance name that is kept, in characters.
_LONGEST_NAME: Final = 512


class FrameHandler:
    """Applies workers' frames to the store and the registry of connections."""

    def __init__(self, services: Services, lease_keeper: LeaseKeeper) -> None:
        self._services = services
        self._database = services.database
        self._connections = services.connections
        self._clock = services.clock
        self._notify = services.subscribers.notify
        self._lease_keeper = lease_keeper
        self._faults = FaultLog(_log, "applying a frame")

    async def consume(
        self, connection: WorkerConnection, receive: Callable[[], Awaitable[str | bytes]]
    ) -> None:
        """Apply frames until ``receive`` raises; then finish those that have begun, and re-raise."""
        window = asyncio.Semaphore(_WINDOW)
        tasks: set[asyncio.Task[None]] = set()

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            window.release()

        try:
            # The worker may have missed cancellations before it connected.
            for run_id in await self._database.read(reports.pending_cancellations, connection.peer.worker_id):
                connection.cancel(ExecutionRef(run_id))
            while True:
                raw = await receive()
                try:
                    frame = decode_worker_frame(raw)
                except FrameError as error:
                    connection.odd_frames.occurred("is ignored", error)
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
        """Apply a frame; an error closes its connection and nothing else.

        The worker then reconnects, and sends again what was not acknowledged.
        """
        try:
            await self.apply(connection, frame)
        except Exception as error:  # noqa: BLE001 - the process must not end
            self._faults.occurred(
                f"failed with {type(error).__name__}",
                f"{frame.kind} of worker {connection}: {brief(error)}",
                level=logging.ERROR,
                traceback=None if isinstance(error, SQLAlchemyError) else error,
            )
            connection.closing.set()

    async def apply(self, connection: WorkerConnection, frame: WorkerFrame) -> None:
        """Apply one frame. Its write is queued before the first suspension."""
        match frame:
            case TaskClaimed():
                await self._on_claimed(connection, frame)
            case TaskRejected():
                await self._on_rejected(connection, frame)
            case TaskCompleted() | TaskFailed():
                await self._on_ended(connection, frame)
            case TaskLog():
                await self._on_output(connection, frame)
            case WorkerHello():
                await self._on_hello(connection, frame)
            case _:
                pass  # a heartbeat says nothing beyond its arrival

    async def _on_hello(self, connection: WorkerConnection, frame: WorkerHello) -> None:
        instance = storable(frame.instance or "", _LONGEST_NAME) or None
        peer = Peer(connection.peer.worker_id, storable(frame.backend, _LONGEST_NAME), instance)
        connection.accept_hello(peer, frame.max_concurrent_tasks or 0)
        for older in self._connections.superseded(connection):
            _log.info("worker %s is dead: the same instance connected as %s", older, connection)
            older.closing.set()
            self._lease_keeper.disconnect(older)
        if connection.runs:
            self._database.write(lease_queries.set_owner, tuple(connection.runs), peer)
        refs = [_ref(execution) for execution in frame.executions or ()]
        written = [self._write_claim(connection, ref) for ref in refs]
        claims = [self._handle_claim(connection, ref, await w) for ref, w in zip(refs, written, strict=True)]
        _log.info(
            "worker %s said hello: version %s, backend %s, %s tasks at a time, has %d runs",
            connection,
            one_line(frame.version or "unknown"),
            one_line(frame.backend),
            f"at most {limit}" if (limit := frame.max_concurrent_tasks or 0) else "any number of",
            sum(claims),
        )
        self._services.wake()

    async def _on_claimed(self, connection: WorkerConnection, frame: TaskClaimed) -> None:
        ref = _ref(frame)
        if not self._handle_claim(connection, ref, await self._write_claim(connection, ref)):
            return
        _log.info("run %s claimed by worker %s", ref.run_id, connection)
        before = connection.capacity
        connection.capacity = before.claimed(len(connection.runs))
        if connection.capacity is not before:
            self._services.wake()

    def _write_claim(
        self, connection: WorkerConnection, ref: ExecutionRef
    ) -> "asyncio.Future[reports.ClaimResult]":
        elsewhere = self._connections.is_elsewhere(ref.run_id, connection)
        return self._database.write(reports.claim, ref, connection.peer, self._clock(), elsewhere=elsewhere)

    def _handle_claim(
        self, connection: WorkerConnection, ref: ExecutionRef, claim: reports.ClaimResult
    ) -> bool:
        """Do what follows from a stored claim; returns whether it was accepted."""
        if claim.accepted:
            connection.refused.discard(ref)
            self._lease_keeper.bind(ref.run_id, connection)
            self._notify(ref.run_id)
            if claim.cancel:
                connection.cancel(ref)
            return True
        # A worker that starts claims what it finds, also runs that ended long ago.
        level = logging.INFO if claim.ended else logging.WARNING
        run_id = one_line(ref.run_id)
        _log.log(level, "claim of run %s by worker %s refused: %s", run_id, connection, claim.why)
        if claim.cancel:
            self._refuse(connection, ref)
        return False

    def _refuse(self, connection: WorkerConnection, ref: ExecutionRef) -> None:
        """Ask a worker to stop an execution that it must not run.

        A public worker cannot distinguish executions, and would stop the current one too. If
        this connection has the current one, nothing is therefore sent.
        """
        connection.refused.add(ref)
        if connection.peer.sent_hello or self._connections.holder(ref.run_id) is not connection:
            connection.cancel(ref)

    async def _on_rejected(self, connection: WorkerConnection, frame: TaskRejected) -> None:
        ref = _ref(frame)
        reason = storable(f"{frame.reason}: {frame.message}" if frame.message else frame.reason)
        now, lease_until = self._clock(), self._lease_keeper.lease_until
        if self._connections.is_elsewhere(ref.run_id, connection) or not await self._database.write(
            queue.reject, ref, connection.peer, reason, now, lease_until
        ):
            run_id = one_line(ref.run_id)
            _log.warning("rejection of run %s by worker %s ignored: not its run", run_id, connection)
            return
        _log.info("run %s rejected by worker %s", ref.run_id, connection)
        self._connections.release(ref.run_id)
        connection.rejected(self._clock())
        self._notify(ref.run_id)
        self._services.wake()

    async def _on_ended(self, connection: WorkerConnection, frame: TaskCompleted | TaskFailed) -> None:
        ref, outcome = _ref(frame), outcome_of(frame)
        refused = ref in connection.refused
        elsewhere = self._connections.is_elsewhere(ref.run_id, connection)
        write = partial(reports.finish, refused=refused, elsewhere=elsewhere)
        result = await self._database.write(write, ref, connection.peer, outcome, self._clock())
        if frame.ack_id is not None:
            connection.send(Ack(ack_id=frame.ack_id))
        effect = f"run ended {outcome.state}" if result.changed else f"nothing changed, {result.why}"
        _log.info("report of run %s by worker %s: %s", one_line(ref.run_id), connection, effect)
        if result.state in TERMINAL:
            holder = self._connections.release(ref.run_id)
            if result.changed and holder not in (None, connection) and not holder.peer.sent_hello:
                holder.cancel(ref)  # another process with its ID: it may run a second copy
        connection.capacity = connection.capacity.ended(len(connection.runs))
        self._notify(ref.run_id)
        self._services.wake()

    async def _on_output(self, connection: WorkerConnection, frame: TaskLog) -> None:
        ref, run_id = _ref(frame), one_line(frame.task_id)
        if not 0 <= frame.offset <= _LARGEST_OFFSET:
            connection.odd_frames.occurred("is ignored for its offset", f"output of run {run_id}")
            return
        piece = logs.Piece(frame.offset, frame.text.encode("utf-8", "replace"))
        retention = self._services.settings.log_retention_bytes
        appended = await self._database.write(
            logs.append, ref, connection.peer, piece, retention=retention, now=self._clock()
        )
        if appended.held and self._connections.holder(ref.run_id) is not connection:
            self._lease_keeper.bind(ref.run_id, connection)
        if appended.refused and ref not in connection.refused:
            _log.warning("output of run %s by worker %s refused", run_id, connection)
            self._refuse(connection, ref)
        if appended.stored:
            self._notify(ref.run_id)


def _ref(
    frame: TaskClaimed | TaskRejected | TaskCompleted | TaskFailed | TaskLog | ExecutionKey,
) -> ExecutionRef:
    return ExecutionRef(frame.task_id, frame.execution_id)
