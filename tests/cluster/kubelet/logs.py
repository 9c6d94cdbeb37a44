"""Container logs, and the kubelet's HTTPS endpoint from which the API server fetches them.

Endpoint and parameters: ``/containerLogs/{namespace}/{pod}/{container}`` of the
kubelet's server, with those of the API's PodLogOptions that concern content.
"""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from aiohttp import web

from tests.cluster.certificates import Authority
from tests.cluster.web_server import end_server

__all__ = ["ContainerLog", "LogOptions", "LogServer", "select"]

_LINES_A_PIECE: Final = 1000


class Line(NamedTuple):
    """One line with its end, and when it was written."""

    written: datetime
    text: bytes


class LogOptions(NamedTuple):
    """What a reader asks for; None means no limit."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit: int | None = None
    since: datetime | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], now: datetime) -> Self:
        """Read the query of a log request."""
        since = None
        if "sinceSeconds" in query:
            since = now - timedelta(seconds=int(query["sinceSeconds"]))
        elif "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"])
        return cls(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            tail=int(query["tailLines"]) if "tailLines" in query else None,
            limit=int(query["limitBytes"]) if "limitBytes" in query else None,
            since=since,
        )


class ContainerLog:
    """The output of one container: lines, and a signal to those who follow it."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._partial = b""
        self._closed = False
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Add output, in pieces of any size."""
        *whole, self._partial = (self._partial + data).split(b"\n")
        now = datetime.now(UTC)
        self._lines.extend(Line(now, text + b"\n") for text in whole)
        self._wake()

    def close(self) -> None:
        """The container has ended: a last line without a line feed is a line too, and no follower is left."""
        if self._partial:
            self._lines.append(Line(datetime.now(UTC), self._partial))
            self._partial = b""
        self._closed = True
        self._wake()

    def end(self, size: int) -> bytes:
        """Return the last ``size`` bytes, at most."""
        return (b"".join(line.text for line in self._lines) + self._partial)[-size:]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield the log as the options ask; with ``follow``, until the container ends."""
        left = options.limit
        seen = len(self._lines)
        batch = select(self._lines, options)
        while True:
            for piece in _pieces(batch, options):
                yield piece if left is None else piece[:left]
                if left is not None and (left := left - len(piece)) <= 0:
                    return
            if not options.follow or (self._closed and seen == len(self._lines)):
                return
            if seen == len(self._lines):
                await self._changed.wait()
            batch, seen = self._lines[seen:], len(self._lines)


def select(lines: list[Line], options: LogOptions) -> list[Line]:
    """Return the lines that ``since`` and ``tail`` leave."""
    chosen = [line for line in lines if options.since is None or line.written >= options.since]
    if options.tail is None:
        return chosen
    return chosen[-options.tail :] if options.tail else []


def _pieces(lines: list[Line], options: LogOptions) -> Iterator[bytes]:
    """The lines as a reader wants them, many in one piece: to send each by itself takes seconds."""
    for begin in range(0, len(lines), _LINES_A_PIECE):
        yield b"".join(_format(line, options) for line in lines[begin : begin + _LINES_A_PIECE])


def _format(line: Line, options: LogOptions) -> bytes:
    if not options.timestamps:
        return line.text
    return line.written.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode() + line.text


class LogServer:
    """Serves the logs of one node over HTTPS on a free loopback port."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, str, str], ContainerLog] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen with a certificate that is not verified, as with a kubelet's by default."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=_server_context())
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening, and end the streams of those who follow a log."""
        for log in self._logs.values():
            log.close()
        if self._runner is not None:
            await end_server(self._runner)

    def open(self, namespace: str, pod: str, container: str) -> ContainerLog:
        """Return the log of one container, a new one where it has none."""
        return self._logs.setdefault((namespace, pod, container), ContainerLog())

    def forget(self, namespace: str, pod: str) -> None:
        """Remove the logs of a Pod that is gone."""
        for key in [key for key in self._logs if key[:2] == (namespace, pod)]:
            self._logs.pop(key).close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info
        log = self._logs.get((path["namespace"], path["pod"], path["container"]))
        if log is None:
            reason = f'container "{path["container"]}" in pod "{path["pod"]}" is waiting to start'
            return web.Response(status=400, text=f"{reason}: ContainerCreating")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for piece in log.read(LogOptions.parse(request.query, datetime.now(UTC))):
            await response.write(piece)
        await response.write_eof()
        return response


def _server_context() -> ssl.SSLContext:
    pair = Authority.create("played kubelet").server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as both:
        both.write(pair.certificate + pair.key)
        both.flush()
        context.load_cert_chain(both.name)
    return context
