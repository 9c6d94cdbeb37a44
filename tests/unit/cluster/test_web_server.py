import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.cluster.web_server import end_server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


@asynccontextmanager
async def client_of(handler: Handler) -> AsyncIterator[tuple[web.AppRunner, asyncio.StreamWriter]]:
    """A server, and a client of it that reads nothing."""
    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1], limit=1)
    try:
        yield runner, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("handler", [hang, flood])
async def test_a_connection_in_use_is_broken(handler: Handler) -> None:
    asked = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await handler(request)

    async with client_of(handle) as (runner, writer):
        server = runner.server
        assert server is not None
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await asked.wait()
        (connection,) = server.connections
        transport = connection.transport
        assert isinstance(transport, asyncio.Transport)
        await end_server(runner)
        assert server.connections == []
        assert transport.get_extra_info("socket").fileno() == -1


async def test_a_connection_that_has_just_come_is_broken() -> None:
    async with client_of(hang) as (runner, _):
        server = runner.server
        assert server is not None
        await end_server(runner)
        assert server.connections == []
