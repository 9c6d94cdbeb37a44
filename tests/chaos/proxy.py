"""A TCP proxy that fails as networks do: cuts, delays, black holes, half-open connections."""

import asyncio
import contextlib
from typing import Final, Self

__all__ = ["FaultyProxy"]

_CHUNK: Final = 64 * 1024


class _Pair:
    """One connection through the proxy: the client's half and the server's."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.half_open = False

    def abort(self) -> None:
        """Reset both halves."""
        for half in (self.client, self.server):
            half.transport.abort()

    def lose_server(self) -> None:
        """The server sees a reset, and the client nothing at all: as when a router forgets."""
        self.half_open = True
        self.server.transport.abort()


class FaultyProxy:
    """Forwards connections from a loopback port to another; an async context manager.

    It knows nothing of what passes through it, so TLS does.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._pairs: set[_Pair] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._delay = 0.0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._pairs)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.abort()
        return len(pairs)

    def lose_servers(self) -> int:
        """Leave every client with a connection that has no other end; return how many there were."""
        pairs = [pair for pair in self._pairs if not pair.half_open]
        for pair in pairs:
            pair.lose_server()
        return len(pairs)

    async def refuse(self, seconds: float) -> None:
        """Reset every connection, and each that is tried, for a time."""
        self._refusing = True
        self.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._refusing = False

    async def stall(self, seconds: float) -> None:
        """Pass nothing on for a time, and all of it after."""
        self._flowing.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flowing.set()

    async def delay(self, each: float, seconds: float) -> None:
        """Hold up every piece by ``each`` seconds, for a time."""
        self._delay = each
        try:
            await asyncio.sleep(seconds)
        finally:
            self._delay = 0.0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, server_writer)
        self._pairs.add(pair)
        there = asyncio.create_task(self._pump(reader, server_writer, pair))
        back = asyncio.create_task(self._pump(server_reader, writer, pair))
        try:
            await asyncio.gather(there, back)
        finally:
            for pumping in (there, back):
                pumping.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            pair.abort()
            self._pairs.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                if not pair.half_open:
                    writer.write(data)
                    await writer.drain()
        if not pair.half_open:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()
            # What ends one half ends the other, but not before the data sent has arrived.
            with contextlib.suppress(OSError):
                await writer.drain()
            pair.client.close()
            pair.server.close()
