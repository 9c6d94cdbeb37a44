"""How long a stream may stay silent before its connection counts as lost."""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp

__all__ = ["SilenceLimit"]


class SilenceLimit:
    """Fails a stream of which nothing was ``heard`` for ``seconds``; a context manager.

    Its timer runs out once in that time, and is set again for the rest. The HTTP library's own
    limit sets one for each packet: for a watch, that is a good part of what an event costs.
    """

    def __init__(self, stream: aiohttp.StreamReader, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self.heard()
        self._timer = self._loop.call_later(self._seconds, self._check)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def heard(self) -> None:
        """Something came."""
        self._heard_at = self._loop.time()

    def _check(self) -> None:
        rest = self._heard_at + self._seconds - self._loop.time()
        if rest > 0:
            self._timer = self._loop.call_later(rest, self._check)
        else:
            self._stream.set_exception(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))
