"""The connection at shutdown: it reconnects at once, and does not wait for a silent peer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.worker.connection import Connection, ConnectionSettings
from oz_agent_worker.worker.task_spec import TaskSettings
from oz_agent_worker.worker.worker import Worker, WorkerSettings
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.scripted import ScriptedBackend

from .scripted_plane import PeerConnection, Plane, plane_on, until

HOUR = 3600.0


def _link(url: str, *, retry_first: float) -> Connection:
    outbox, logs = Outbox(), LogBuffers()
    tasks = TaskSettings(server_root_url="https://oz.test")
    worker_settings = WorkerSettings(worker_id="w", max_concurrent_tasks=1, tasks=tasks)
    worker = Worker(ScriptedBackend(), worker_settings, outbox, logs)
    settings = ConnectionSettings(
        url=url, worker_id="w", api_key=Secret("k"), connect_timeout=HOUR,
        retry_first=retry_first, retry_cap=HOUR,
    )  # fmt: skip
    link = worker.connection = Connection(settings, worker, outbox, logs, uniform=lambda _low, high: high)
    return link


@contextlib.asynccontextmanager
async def _running(link: Connection) -> AsyncIterator[None]:
    running = asyncio.create_task(link.run())
    try:
        yield
    finally:
        link.stop()
        async with asyncio.timeout(HANG_TIMEOUT):
            await running


async def _answer(connection: PeerConnection) -> None:
    await connection.answer()


@pytest.mark.parametrize("status", [401, 503])
async def test_a_worker_that_leaves_does_not_sit_out_the_wait_for_the_next_try(status: int) -> None:
    plane = Plane([status, _answer])
    async with plane_on(plane):
        link = _link(plane.url, retry_first=HOUR)
        async with _running(link):
            await until(lambda: plane.requests)
            await asyncio.sleep(0.05)
            assert not link.connected
            link.reconnect_now()
            await until(lambda: link.connected)


async def test_every_further_try_of_a_worker_that_leaves_comes_soon() -> None:
    plane = Plane([401, 401, 503, 503, 401, _answer])
    async with plane_on(plane):
        link = _link(plane.url, retry_first=0.01)
        async with _running(link):
            await until(lambda: plane.requests)
            link.reconnect_now()
            await until(lambda: link.connected)
    assert len(plane.requests) == 6


async def test_stop_does_not_wait_for_an_unanswered_handshake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with _running(_link(f"ws://127.0.0.1:{port}/ws", retry_first=HOUR)):
            await called.wait()
    assert not any("next try" in message for message in caplog.messages)
