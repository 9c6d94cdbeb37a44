"""The faulty proxy, before an echo server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from tests.chaos.proxy import FaultyProxy
from tests.cluster.processes import free_ports
from tests.timeouts import HANG_TIMEOUT

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(100):
            writer.write(data)
    await _close(writer)


@pytest.fixture
async def proxy() -> AsyncIterator[FaultyProxy]:
    port, target = free_ports(2)
    server = await asyncio.start_server(_echo, "127.0.0.1", target)
    async with FaultyProxy(port, target) as faulty:
        yield faulty
    server.close()
    await asyncio.sleep(0.01)  # the echoes see their ends


@asynccontextmanager
async def connected(proxy: FaultyProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        await _close(writer)


async def exchange(streams: Streams) -> bytes:
    """What comes back: nothing where the connection is over."""
    reader, writer = streams
    try:
        writer.write(b"ping")
        await writer.drain()
        async with asyncio.timeout(HANG_TIMEOUT):
            return await reader.read(4)
    except ConnectionError:
        return b""


async def test_it_passes_on_both_ways(proxy: FaultyProxy) -> None:
    async with connected(proxy) as streams:
        assert await exchange(streams) == b"ping"
        assert proxy.connections == 1


async def test_a_cut_ends_what_there_is_and_no_more(proxy: FaultyProxy) -> None:
    async with connected(proxy) as streams, connected(proxy) as others:
        assert await exchange(streams) == await exchange(others) == b"ping"
        assert proxy.cut() == 2
        assert await exchange(streams) == await exchange(others) == b""
    async with connected(proxy) as streams:
        assert await exchange(streams) == b"ping"


async def test_a_stall_holds_back_and_lets_go(proxy: FaultyProxy) -> None:
    async with connected(proxy) as streams:
        await exchange(streams)
        stalling = asyncio.create_task(proxy.stall(30))
        await asyncio.sleep(0)
        answer = asyncio.create_task(exchange(streams))
        done, _ = await asyncio.wait([answer], timeout=0.05)
        assert not done
        stalling.cancel()
        assert await answer == b"ping"


async def test_a_lost_server_leaves_the_client_without_a_sign(proxy: FaultyProxy) -> None:
    async with connected(proxy) as streams:
        await exchange(streams)
        assert proxy.lose_servers() == 1
        answer = asyncio.create_task(exchange(streams))
        done, _ = await asyncio.wait([answer], timeout=0.05)
        assert not done
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def test_while_it_refuses_nothing_passes(proxy: FaultyProxy) -> None:
    refusing = asyncio.create_task(proxy.refuse(30))
    await asyncio.sleep(0)
    async with connected(proxy) as streams:
        assert await exchange(streams) == b""
    refusing.cancel()
    await asyncio.gather(refusing, return_exceptions=True)
    async with connected(proxy) as streams:
        assert await exchange(streams) == b"ping"
