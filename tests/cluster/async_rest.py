"""The harness's asynchronous client of the API server: patient as a kubelet, and no part of the product."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from tests.timeouts import HANG_TIMEOUT

from .errors import ApiError, ClusterError
from .kubeconfig import Connection

__all__ = ["STRATEGIC_PATCH", "AsyncRestClient", "eventually"]

STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
JSON: Final = "application/json"

# The API server's own rate no longer rises with more.
REQUESTS_IN_FLIGHT: Final = 32


class AsyncRestClient:
    """An async context manager. Requests are repeated until the API server is back."""

    def __init__(self, connection: Connection, *, user_agent: str = "tests") -> None:
        self._connection = connection
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(REQUESTS_IN_FLIGHT)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # Watches hold connections of their own: the slots bound the rest.
            connector=aiohttp.TCPConnector(ssl=self._connection.ssl_context, limit=0),
            headers={**self._connection.headers, "User-Agent": self._user_agent},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=HANG_TIMEOUT),
            read_bufsize=2**20,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("AsyncRestClient is a context manager that has not been entered")
        return self._session

    async def get(self, path: str) -> Any:
        """GET one object or list."""
        return await self.request("GET", path)

    async def create(self, path: str, body: Any) -> Any:
        """POST one object."""
        return await self.request("POST", path, body)

    async def delete(self, path: str, **options: Any) -> Any:
        """DELETE with DeleteOptions, such as ``propagationPolicy="Background"``."""
        return await self.request("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    async def text(self, path: str) -> str:
        """GET what is no JSON, such as a log."""
        async with self._open_session.get(self._connection.server + path) as answer:
            text = await answer.text()
        if answer.status >= 400:
            raise ApiError("GET", path, answer.status, text)
        return text

    async def request(self, method: str, path: str, body: Any = None, content_type: str = JSON) -> Any:
        """Send one request, again and again while the API server is away or overloaded.

        Raises:
            ApiError: the server refused it with a 4xx status.
        """
        delay = 0.05
        payload = None if body is None else json.dumps(body)
        while True:
            try:
                async with self._slots:
                    return await self._send(method, path, payload, content_type)
            except (aiohttp.ClientError, TimeoutError):
                pass
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)

    async def _send(self, method: str, path: str, payload: str | None, content_type: str) -> Any:
        headers = {"Content-Type": content_type}
        url = self._connection.server + path
        timeout = aiohttp.ClientTimeout(total=HANG_TIMEOUT)
        async with self._open_session.request(
            method, url, data=payload, headers=headers, timeout=timeout
        ) as answer:
            text = await answer.read()
        if answer.status >= 400:
            raise ApiError(method, path, answer.status, text.decode(errors="replace"))
        return msgspec.json.decode(text)

    async def watch(self, path: str, resource_version: str) -> AsyncIterator[tuple[str, Any]]:
        """Yield (type, object) until the server ends the watch.

        Raises:
            ApiError: the watch was refused, or ended with an error: 410 asks for a new list.
            aiohttp.ClientError: the connection broke.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resource_version}
        url = self._connection.server + path
        async with self._open_session.get(url, params=query) as answer:
            if answer.status != 200:
                raise ApiError("WATCH", path, answer.status, await answer.text())
            async for line in _lines(answer.content):
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    raise ApiError("WATCH", path, event["object"].get("code", 500), str(event["object"]))
                yield event["type"], event["object"]


async def eventually(
    what: str, check: Callable[[], Awaitable[bool]], *, timeout: float = HANG_TIMEOUT
) -> None:
    """Ask every 20 ms until ``check`` holds; for what the API server has no event of.

    Raises:
        ClusterError: it did not hold within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not await check():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {timeout:.0f} s")
        await asyncio.sleep(0.02)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream into lines of any length; ``readline`` refuses those longer than its buffer."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
