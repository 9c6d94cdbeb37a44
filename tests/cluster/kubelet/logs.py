"""Container logs, and the kubelet's HTTPS endpoint from which the API server fetches them.

An error of the kubelet's reader is in the body, after what was read (k8s.io/kubernetes,
pkg/kubelet/server, getContainerLogs): the answer's status is sent before.

Endpoint and parameters: ``/containerLogs/{namespace}/{pod}/{container}`` of the
kubelet's server, with those of the API's PodLogOptions that concern content.
"""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from tests.cluster.certificates import Authority
from tests.cluster.web_server import end_server

from .cri_log import LogOptions, Reading, Recorder, file_lines, read_log_file, tail_start

__all__ = ["ContainerLog", "LogServer"]

_LINES_A_PIECE: Final = 1000


class ContainerLog:
    """The output of one container in log files, of which the last is served, and a signal to followers.

    ``follow_error`` and ``open_error`` are what the kubelet says in place of the rest of a log: where
    it would wait for more of it, and before it has read anything.
    """

    def __init__(self) -> None:
        self._file = bytearray()
        self._recorder = Recorder()
        self._closed = False
        self._changed = asyncio.Event()
        self.follow_error = ""
        self.open_error = ""
        self.followed = 0
        """How often somebody began to follow it."""
        self._cuts = 0

    def write(self, data: bytes, *, at: datetime | None = None) -> None:
        """Add output, in pieces of any size; ``at`` is when, by default now."""
        self.append(self._recorder.write(data, at or datetime.now(UTC)))

    def append(self, records: bytes) -> None:
        """Add to the log file: whole records, as a container runtime does."""
        self._file += records
        self._wake()

    def rotate(self) -> None:
        """Begin another file; those who follow the log go on with it."""
        self._file = bytearray()
        self._wake()

    def fail_followers(self, error: str) -> None:
        """Have each follower get an error where the log's end is; an empty one ends that."""
        self.follow_error = error
        self._wake()

    def end_followers(self) -> None:
        """End the streams of those who follow it, as an API server does that loses the kubelet."""
        self._cuts += 1
        self._wake()

    def close(self) -> None:
        """The container has ended: the rest without a line feed is a record, and followers leave."""
        self._closed = True
        self.append(self._recorder.close(datetime.now(UTC)))

    def end(self, size: int) -> bytes:
        """Return the last ``size`` bytes, at most."""
        return (read_log_file(bytes(self._file), LogOptions()) + self._recorder.rest)[-size:]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield the log as the options ask; with ``follow``, until the container ends."""
        if self.open_error:
            yield self.open_error.encode()
            return
        self.followed += options.follow
        reading, file, cuts = Reading(options), self._file, self._cuts
        at = tail_start(file, options.tail)
        while True:
            end = file.rfind(b"\n") + 1 if options.follow else len(file)
            lines = file_lines(bytes(file[at:end]))
            at = max(at, end)
            # Many lines in one piece: to send each by itself takes seconds.
            for begin in range(0, len(lines), _LINES_A_PIECE):
                yield reading.take(lines[begin : begin + _LINES_A_PIECE])
            if reading.done or not options.follow:
                return
            if self.follow_error:
                yield self.follow_error.encode()
                return
            if file is not self._file:
                file, at = self._file, 0
            elif not lines:
                if self._closed or cuts != self._cuts:
                    return
                await self._changed.wait()


class LogServer:
    """Serves the logs of one node over HTTPS on a free loopback port."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, str, str], ContainerLog] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.hangs = False
        """Whether no request is answered."""

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
        if self.hangs:
            await asyncio.Event().wait()
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
