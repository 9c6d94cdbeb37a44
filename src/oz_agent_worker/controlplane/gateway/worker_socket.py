"""The WebSocket to which workers connect."""

import asyncio
import contextlib
import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect

from oz_agent_worker.common.aio import wait_first
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.controlplane.auth import ApiUser, authenticate_user
from oz_agent_worker.controlplane.problems import Code, ProblemError, invalid, problem_response
from oz_agent_worker.protocol.frames import CAPABILITIES_HEADER, Capability, encode_frame, format_capabilities

from .connections import WorkerConnection
from .frame_handler import FrameHandler
from .lease_keeper import LeaseKeeper
from .services import Services

__all__ = ["WorkerSocket"]

_log = logging.getLogger(__name__)

_LONGEST_WORKER_ID: Final = 255
#: A worker that reads nothing for so many seconds is disconnected.
_WRITE_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 1.0
#: RFC 6455, section 7.4.1: an unexpected condition ends the connection.
_INTERNAL_ERROR: Final = 1011
#: The same: the purpose of the connection is fulfilled. A public worker that shuts down sends it.
_NORMAL_CLOSURE: Final = 1000


class WorkerSocket:
    """Handler of ``/api/v1/selfhosted/worker/ws``."""

    def __init__(self, services: Services, lease_keeper: LeaseKeeper, frame_handler: FrameHandler) -> None:
        self._services = services
        self._lease_keeper = lease_keeper
        self._frame_handler = frame_handler
        self._refused = FaultLog(_log, "the connection of a worker")

    async def handle(self, websocket: WebSocket) -> None:
        """Serve one worker until it disconnects. A refused handshake gets an HTTP response."""
        try:
            user = await self._authenticate(websocket)
            worker_id = _worker_id(websocket)
        except ProblemError as problem:
            self._refused.occurred(f"was refused: {problem.status} {problem.code}", problem.detail)
            await websocket.send_denial_response(problem_response(websocket, problem))
            return
        offered = format_capabilities(Capability)
        await websocket.accept(headers=[(CAPABILITIES_HEADER.lower().encode(), offered.encode())])
        await self._serve(websocket, worker_id, user)

    async def _authenticate(self, websocket: WebSocket) -> ApiUser:
        """Return the holder of the key. Raises ProblemError, also where the database does not answer."""
        try:
            return await authenticate_user(websocket, self._services.database)
        except SQLAlchemyError as error:
            detail = f"The database does not answer: {type(error).__name__}."
            raise ProblemError(503, Code.INTERNAL_ERROR, detail, retryable=True) from error

    async def _serve(self, websocket: WebSocket, worker_id: str, user: ApiUser) -> None:
        services = self._services
        connection = services.connections.connect(worker_id, user.key_id, services.clock())
        services.wake()
        _log.info("worker %s connected with key %s", connection, user.name)
        frames = self._frame_handler.consume(connection, lambda: _receive(websocket))
        reader = asyncio.create_task(frames)
        writer = asyncio.create_task(self._pump(websocket, connection))
        closing = asyncio.create_task(connection.closing.wait())
        departed = False
        try:
            read_error, write_error, _ = await wait_first(reader, writer, closing)
            departed = isinstance(read_error, WebSocketDisconnect) and read_error.code == _NORMAL_CLOSURE
        finally:
            self._lease_keeper.disconnect(connection, departed=departed)
        # Closing fails if the peer has closed already, and never returns if the peer reads
        # nothing. The connection is dropped either way.
        with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await websocket.close(_INTERNAL_ERROR)
        _log.info("worker %s disconnected%s", connection, _reason(read_error, write_error))

    async def _pump(self, websocket: WebSocket, connection: WorkerConnection) -> None:
        """Send the queued frames to one worker."""
        full = False
        while True:
            frame = await connection.outgoing.get()
            text = encode_frame(frame)
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await websocket.send_text(text)
            _log.debug("sent %s of %d characters to worker %s", frame.kind, len(text), connection)
            full = full or not connection.has_room
            if full and connection.outgoing.empty():
                full = False
                self._services.wake()


def _worker_id(websocket: WebSocket) -> str:
    worker_id = websocket.query_params.get("worker_id", "").strip()
    printable = worker_id.isprintable() and len(worker_id) <= _LONGEST_WORKER_ID
    for accepted, rule in (
        (worker_id, "required in the query"),
        (not worker_id.startswith("warp"), "IDs that begin with warp are reserved"),
        (printable, f"at most {_LONGEST_WORKER_ID} printable characters"),
    ):
        if not accepted:
            raise invalid(f"worker_id: {rule}")
    return worker_id


async def _receive(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text


def _reason(read: object, written: object) -> str:
    if isinstance(written, TimeoutError):
        return f": it read nothing for {_WRITE_TIMEOUT:g} s"
    if isinstance(read, WebSocketDisconnect):
        return f" (code {read.code})"
    failed = next((r for r in (read, written) if isinstance(r, Exception)), None)
    return "" if failed is None else f": {type(failed).__name__}"
