"""A control plane that sends the assignments it is given, and records the worker's answers."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp import WSMsgType, web

from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.frames import CAPABILITIES_HEADER, Capability, FrameError, format_capabilities
from tests.cluster.web_server import end_server

from .errors import BenchError
from .ledger import CANCELLED, COMPLETED, FAILED, Ledger

__all__ = ["API_KEY", "ControlPlane"]

PATH: Final = "/api/v1/selfhosted/worker/ws"
API_KEY: Final = "bench-key"


class ControlPlane:
    """An async context manager: a WebSocket server on loopback for one worker at a time.

    ``ledger`` is that of the phase, and every frame's time goes into it. Terminal reports
    are acknowledged at once where ``capabilities`` has ``ack``.
    """

    def __init__(self, capabilities: frozenset[Capability]) -> None:
        self.ledger = Ledger()
        self._capabilities = capabilities
        self._socket: web.WebSocketResponse | None = None
        app = web.Application()
        app.router.add_get(PATH, self._serve)
        # A worker that is still connected at the end is stopped by its own process's owner.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._port = 0

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_server(self._runner)

    @property
    def root_url(self) -> str:
        """The control plane as agents would reach it."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def web_socket_url(self) -> str:
        """The control plane as the worker reaches it."""
        return f"ws://127.0.0.1:{self._port}{PATH}"

    @property
    def connected(self) -> bool:
        """Whether a worker is there."""
        return self._socket is not None

    async def assign(self, frames: Mapping[str, str]) -> None:
        """Write assignments, encoded beforehand, by task ID, as fast as the connection takes them."""
        socket = self._connection()
        for task_id, text in frames.items():
            self.ledger.assigned(task_id, time.monotonic())
            await socket.send_str(text)

    async def cancel(self, task_ids: Iterable[str]) -> None:
        """Ask for the end of tasks."""
        socket = self._connection()
        for task_id in task_ids:
            await socket.send_str(frames.encode_frame(frames.TaskCancellation(task_id=task_id)))

    def _connection(self) -> web.WebSocketResponse:
        if self._socket is None:
            raise BenchError("no worker is connected")
        return self._socket

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(compress=False, max_msg_size=frames.MAX_FRAME_BYTES)
        if self._capabilities:
            socket.headers[CAPABILITIES_HEADER] = format_capabilities(self._capabilities)
        await socket.prepare(request)
        self._socket = socket
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._take(socket, message.data, time.monotonic())
        finally:
            self._socket = None
        return socket

    async def _take(self, socket: web.WebSocketResponse, text: str, now: float) -> None:
        try:
            frame = frames.decode_worker_frame(text)
        except FrameError as error:
            self.ledger.problems.append(str(error))
            return
        match frame:
            case frames.TaskClaimed(task_id=task_id):
                self.ledger.claimed(task_id, now)
            case frames.TaskRejected(task_id=task_id, reason=reason):
                self.ledger.rejected(task_id, reason)
            case frames.TaskCompleted() | frames.TaskFailed():
                self.ledger.reported(frame.task_id, _state(frame), now)
                if frame.ack_id is not None:
                    await socket.send_str(frames.encode_frame(frames.Ack(ack_id=frame.ack_id)))


def _state(frame: frames.TaskCompleted | frames.TaskFailed) -> str:
    if isinstance(frame, frames.TaskFailed):
        return FAILED
    return CANCELLED if frame.task_state == CANCELLED else COMPLETED
