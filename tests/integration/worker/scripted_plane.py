"""A control plane's end of the WebSocket, played by a script on a real server."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from oz_agent_worker.protocol.frames import CAPABILITIES_HEADER, MAX_FRAME_BYTES
from tests.cluster.web_server import end_server
from tests.timeouts import HANG_TIMEOUT

__all__ = ["BrokenError", "PeerConnection", "Plane", "assignment", "plane_on", "until"]

EXTENDED = "ack, hello, logs"


class BrokenError(Exception):
    """The script ends this connection, or the worker did."""


@dataclass
class PeerConnection:
    """One connection: ``log`` holds all that came in, in order, pings as bytes."""

    number: int
    request: web.Request
    socket: web.WebSocketResponse
    log: list[str | bytes] = field(default_factory=list)

    async def receive(self) -> str | bytes:
        """The next frame's text, or the payload of a ping."""
        message = await self.socket.receive()
        if message.type is WSMsgType.PONG:
            return await self.receive()
        if message.type not in {WSMsgType.TEXT, WSMsgType.PING}:
            raise BrokenError
        data: str | bytes = message.data if message.type is WSMsgType.TEXT else bytes(message.data)
        self.log.append(data)
        return data

    async def receive_frame(self) -> dict[str, Any]:
        """The next frame; pings on the way are answered."""
        while isinstance(data := await self.receive(), bytes):
            await self.socket.pong(data)
        frame: dict[str, Any] = json.loads(data)
        return frame

    async def send(self, kind: str, **data: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, "data": data}))

    async def answer(self) -> None:
        """Answer pings and acknowledge reports until the connection ends."""
        while True:
            frame = await self.receive_frame()
            if ack_id := frame["data"].get("ack_id"):
                await self.send("ack", ack_id=ack_id)

    def abort(self) -> None:
        """Reset the TCP connection, as a killed peer or a network does."""
        if self.request.transport is not None:
            self.request.transport.abort()


Script = Callable[[PeerConnection], Awaitable[None]]


@dataclass
class Plane:
    """Runs a script a connection, the last one for all that follow. A script may be an HTTP status."""

    scripts: list[Script | int]
    capabilities: str | None = None
    port: int = 0
    requests: list[web.Request] = field(default_factory=list)
    connections: list[PeerConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/worker/ws"

    @property
    def frames(self) -> list[str]:
        """Every frame of every connection, as its text."""
        return [item for c in self.connections for item in c.log if isinstance(item, str)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(request)
        if isinstance(script, int):
            return web.Response(status=script, text="no")
        ws = web.WebSocketResponse(autoping=False, max_msg_size=MAX_FRAME_BYTES)
        if self.capabilities is not None:
            ws.headers[CAPABILITIES_HEADER] = self.capabilities
        await ws.prepare(request)
        connection = PeerConnection(len(self.connections), request, ws)
        self.connections.append(connection)
        with contextlib.suppress(BrokenError, ConnectionError):
            await script(connection)
        return ws


@contextlib.asynccontextmanager
async def plane_on(plane: Plane) -> AsyncIterator[Plane]:
    """Serve a plane on a free port of the loopback interface, or on the one that it names."""
    application = web.Application()
    application.router.add_get("/worker/ws", plane.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", plane.port))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # a peer that does not read shows soon
    plane.port = listener.getsockname()[1]
    await web.SockSite(runner, listener).start()
    try:
        yield plane
    finally:
        await end_server(runner)


async def until(condition: Callable[[], object], seconds: float = HANG_TIMEOUT) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def assignment(task_id: str = "run-1", **more: Any) -> dict[str, Any]:
    """The ``data`` of a small assignment."""
    return {"task_id": task_id, "execution_id": f"{task_id}-e1", "task": {"id": task_id}, **more}
