"""The connections that were opened with one TLS context."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

__all__ = ["Pool"]


class Pool:
    """A session that is closed once it is retired and the last request on it has ended.

    ``version`` is that of the TLS context (``Credentials.context_version``).
    """

    def __init__(self, session: aiohttp.ClientSession, version: int) -> None:
        self.version = version
        self._session = session
        self._requests = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether its connections are closed."""
        return self._closing is not None and self._closing.done()

    @contextmanager
    def in_use(self) -> Iterator[aiohttp.ClientSession]:
        """Give the session for one request, until its answer has been read."""
        self._requests += 1
        try:
            yield self._session
        finally:
            self._requests -= 1
            self._close_if_over()

    def retire(self) -> None:
        """Note that no more requests come."""
        self._retired = True
        self._close_if_over()

    async def close(self) -> None:
        """Close it with all its connections."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._session.close())
        await self._closing

    def _close_if_over(self) -> None:
        if self._retired and not self._requests and self._closing is None:
            self._closing = asyncio.ensure_future(self._session.close())
