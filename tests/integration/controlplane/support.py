"""A worker that does what a test says, on a real WebSocket."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from oz_agent_worker.common.secret import Secret
from tests.timeouts import HANG_TIMEOUT

__all__ = ["Frame", "ScriptedWorker", "bearer", "until"]

T = TypeVar("T")

Frame = dict[str, Any]


def bearer(token: Secret | str) -> dict[str, str]:
    value = token if isinstance(token, str) else token.reveal()
    return {"Authorization": f"Bearer {value}"}


async def until(
    look: Callable[[], Awaitable[T]], enough: Callable[[T], bool], patience: float = HANG_TIMEOUT
) -> T:
    """Look again and again until what is seen is ``enough``."""
    async with asyncio.timeout(patience):
        while True:
            seen = await look()
            if enough(seen):
                return seen
            await asyncio.sleep(0.02)


class ScriptedWorker:
    """Connects on entry. ``capacity`` None: it says no hello, as the public worker."""

    def __init__(
        self,
        websocket_url: str,
        key: Secret,
        worker_id: str = "w",
        *,
        capacity: int | None = 0,
        holds: tuple[Frame, ...] = (),
        backend: str = "scripted",
        instance: str | None = None,
    ) -> None:
        self._url = f"{websocket_url}?worker_id={worker_id}"
        self._key = key
        self._capacity = capacity
        self._holds = holds
        self._backend = backend
        self._instance = instance
        self.worker_id = worker_id

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        try:
            self.socket = await self._http.ws_connect(
                self._url, headers=bearer(self._key), max_msg_size=32 * 1024 * 1024
            )
        except BaseException:
            await self._http.close()
            raise
        if self._capacity is not None:
            await self.send(
                "worker_hello",
                worker_id=self.worker_id,
                version="test",
                backend=self._backend,
                instance=self._instance,
                max_concurrent_tasks=self._capacity,
                executions=list(self._holds),
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        await self._http.close()

    def die(self) -> None:
        """Drop the connection without a goodbye, as a killed process does."""
        response = self.socket._response
        assert response.connection is not None
        assert response.connection.transport is not None
        response.connection.transport.abort()

    async def send(self, kind: str, **data: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, "data": data}))

    async def receive(self, kind: str, timeout: float = HANG_TIMEOUT) -> Frame:
        """The next frame, which must be of this kind: its data."""
        async with asyncio.timeout(timeout):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, f"{message.type!r} {message.data!r} {message.extra!r}"
        frame = json.loads(message.data)
        assert frame["type"] == kind, frame
        data: Frame = frame["data"]
        return data

    async def hears_nothing(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.socket.receive()
        except TimeoutError:
            return True
        return False

    async def assignment(self, timeout: float = HANG_TIMEOUT) -> Frame:
        return await self.receive("task_assignment", timeout)

    async def claim(self, task: Frame) -> None:
        await self.send(
            "task_claimed",
            task_id=task["task_id"],
            execution_id=task["execution_id"],
            worker_id=self.worker_id,
        )

    async def log(self, task: Frame, offset: int, text: str) -> None:
        await self.send(
            "task_log", task_id=task["task_id"], execution_id=task["execution_id"], offset=offset, text=text
        )

    async def reject(self, task: Frame) -> None:
        await self.send("task_rejected", task_id=task["task_id"], reason="at capacity")

    async def complete(self, task: Frame, ack_id: str = "a", **more: Any) -> None:
        """Report success (or what ``more`` says) and wait for the acknowledgement."""
        await self.send("task_completed", task_id=task["task_id"], message="done", ack_id=ack_id, **more)
        assert await self.receive("ack") == {"ack_id": ack_id}

    async def fail(self, task: Frame, reason: str, exit_code: int = 0) -> None:
        await self.send(
            "task_failed",
            task_id=task["task_id"],
            message=f"failed: {reason}",
            failure_reason=reason,
            exit_code=exit_code,
            ack_id="f",
        )
        assert await self.receive("ack") == {"ack_id": "f"}
