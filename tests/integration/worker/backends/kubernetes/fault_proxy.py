"""A proxy in front of a real API server that does to its answers what networks and overload do."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
import yaml
from aiohttp import web

from tests.cluster.kubeconfig import Connection
from tests.cluster.web_server import end_server

__all__ = ["FaultProxy"]

#: Headers that are of one connection (RFC 9110, 7.6.1), or that the other side makes itself.
_OWN: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding"})


class FaultProxy:
    """An async context manager, reached over plain HTTP at ``url``; callers bring their own tokens.

    Faults are switches: ``away`` breaks every connection, ``says`` answers every request with a
    status and headers, ``slow`` delays each request by so many seconds, ``watch_ends_after`` ends
    each watch after so many seconds, ``silent`` keeps back what watches say (and never tells),
    ``mangle`` changes the lines of a watch that arrived together. ``asked`` counts by verb.
    """

    def __init__(self, connection: Connection) -> None:
        self.away = False
        self.says: tuple[int, Mapping[str, str]] | None = None
        self.slow = 0.0
        self.watch_ends_after: float | None = None
        self.silent = False
        self.mangle: Callable[[list[bytes]], list[bytes]] = lambda lines: lines
        self.asked: Counter[str] = Counter()
        self.url = ""
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None
        self._open: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._connection.ssl_context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_server(self._runner)
        assert self._session is not None
        await self._session.close()
        await asyncio.sleep(0)  # transports are closed in the loop's next turn

    def kubeconfig(self, folder: Path, token: str) -> Path:
        """Write a kubeconfig that leads here."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path

    def cut(self) -> None:
        """Break every open connection."""
        for transport in list(self._open):
            transport.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        watches = "watch" in request.query
        self.asked["watch" if watches else "list" if "limit" in request.query else request.method] += 1
        assert isinstance(request.transport, asyncio.Transport)
        self._open.add(request.transport)
        try:
            await asyncio.sleep(self.slow)
            if self.away:
                request.transport.abort()
                return web.Response()
            if self.says is not None:
                code, headers = self.says
                body = {"kind": "Status", "code": code, "message": "as ordered"}
                return web.json_response(body, status=code, headers=dict(headers))
            return await self._forward(request, watches=watches)
        finally:
            self._open.discard(request.transport)

    async def _forward(self, request: web.Request, *, watches: bool) -> web.StreamResponse:
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _OWN}
        async with self._session.request(
            request.method,
            self._connection.server + request.raw_path,
            headers=headers,
            data=await request.read() or None,
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OWN}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if watches and answer.status == 200:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.watch_ends_after):
                        await self._pass_lines(answer, response)
            else:
                await response.write(await answer.read())
            await response.write_eof()
            return response

    async def _pass_lines(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        async for lines in _together(answer.content):
            for line in self.mangle(lines):
                if not self.silent:
                    await response.write(line)


async def _together(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """Yield the whole lines of a stream, those in one list that arrived within a moment."""
    rest = b""
    while chunk := await content.readany():
        await asyncio.sleep(0.05)
        *lines, rest = (rest + chunk + content.read_nowait()).split(b"\n")
        if lines:
            yield [line + b"\n" for line in lines]
