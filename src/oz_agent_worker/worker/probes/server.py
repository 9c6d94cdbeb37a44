"""A minimal HTTP server for probes and scrapes: GET and HEAD of a few fixed paths.

It is written on asyncio's streams because the HTTP library's server costs the idle worker
2.3 MiB. Each request has its own connection (RFC 9112, 9.6: ``close``), and a slow or talkative
client delays only itself.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

from oz_agent_worker.common.fault_log import FaultLog

__all__ = ["Endpoint", "ProbeServer", "Response", "Routes"]

logger: Final = logging.getLogger(__name__)

_MAX_HEAD: Final = 16 * 1024
_CLIENT_TIMEOUT: Final = 10.0  # seconds for a request and its response
_MAX_CLIENTS: Final = 64


@dataclass(frozen=True, slots=True)
class Response:
    """A response: status, body, and the body's media type."""

    status: int
    content_type: str
    body: bytes


Routes: TypeAlias = Mapping[str, Callable[[], Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens; with port 0 the system chooses one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ProbeServer:
    """Serves ``routes`` on the addresses of ``hosts`` until it is closed."""

    def __init__(self, hosts: Sequence[str], port: int, routes: Routes) -> None:
        self._hosts = hosts
        self._port = port
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._faults = FaultLog(logger, "GET")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None, "the server is not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is in use, or not one of this machine.
        """
        listen = partial(
            asyncio.start_server,
            self._serve,
            list(self._hosts),
            self._port,
            limit=_MAX_HEAD,
            reuse_address=True,
        )
        try:
            self._server = await listen()
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            # `localhost` has an address of a family that this machine does not have.
            self._server = await listen(family=socket.AF_INET)

    async def close(self) -> None:
        """Stop listening and drop open connections."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in list(self._clients):
                writer.transport.abort()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= _MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(writer)
        try:
            async with asyncio.timeout(_CLIENT_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._clients.discard(writer)

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        return _as_http(self._respond(method, path), with_body=method != "HEAD")

    def _respond(self, method: str, path: str) -> Response:
        route = self._routes.get(path)
        if route is None:
            return _plain(HTTPStatus.NOT_FOUND, "Paths: " + ", ".join(sorted(self._routes)))
        if method not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD")
        try:
            return route()
        except Exception as error:  # noqa: BLE001 (logged with its traceback)
            self._faults.occurred(f"{path} failed", repr(error), traceback=error)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "see the worker's log")


def _plain(status: HTTPStatus, text: str) -> Response:
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def _as_http(response: Response, *, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(["Allow: GET, HEAD"] if response.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head + response.body if with_body else head
