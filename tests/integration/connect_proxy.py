"""An HTTP proxy on loopback that leads every name to one port of this machine.

Loopback itself is never proxied, so that tests ask for a name that only this proxy knows.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = ["ConnectProxy"]


@dataclass
class ConnectProxy:
    """An async context manager: CONNECT (RFC 9110, 9.3.6) makes a tunnel, any other request is passed on.

    ``asked`` has the request lines, ``logins`` each request's Proxy-Authorization. With ``login``
    (a header's value) it wants just that one, and otherwise answers 407. ``refusal`` is a
    status line with which it answers whatever comes.
    """

    target: int = 0
    login: str | None = None
    refusal: str | None = None
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_with(self, login: str) -> str:
        """The address with a ``user:password`` in it, as the variables hold it."""
        return f"http://{login}@127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # A connection that is cancelled has ended like any other: the server would print the error.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        login = headers.get("proxy-authorization")
        self.asked.append(line)
        self.logins.append(login)
        refusal = self.refusal
        if refusal is None and self.login is not None and login != self.login:
            refusal = "407 Proxy Authentication Required"
        if refusal is not None:
            writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            if line.startswith("CONNECT "):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                back.write(_for_the_origin(head))
            await _both_ways(reader, writer, there, back)
        finally:
            back.transport.abort()


def _for_the_origin(head: bytes) -> bytes:
    """The request as its server expects it: its path alone (RFC 9112, 3.2.1), and no login of the proxy."""
    line, *fields = head.split(b"\r\n")
    method, url, version = line.split()
    path = b"/" + url.split(b"/", 3)[3]
    kept = [f for f in fields if not f.lower().startswith(b"proxy-authorization:")]
    return b"\r\n".join([b" ".join([method, path, version]), *kept])


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there: asyncio.StreamReader,
    back: asyncio.StreamWriter,
) -> None:
    """Pass bytes on until either side ends."""
    flows = {asyncio.create_task(_flow(reader, back)), asyncio.create_task(_flow(there, writer))}
    try:
        await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)


async def _flow(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
