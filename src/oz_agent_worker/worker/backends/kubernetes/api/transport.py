"""How a lost connection is noticed: TCP keep-alive for a dead peer, a limit for a silent stream.

A healthy watch is silent for minutes, and so is a connection whose peer is gone: a router that
forgot it, a node that lost its power. The kernel's probes tell the two apart.
"""

import asyncio
import socket
from types import TracebackType
from typing import Final, Self

import aiohttp

__all__ = ["DEAD_AFTER", "SilenceLimit", "open_socket"]

_IDLE: Final = 10
_INTERVAL: Final = 5

DEAD_AFTER: Final = 20
"""Seconds without any answer to its packets after which a connection counts as lost."""


def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket with TCP keep-alive (RFC 9293, 3.8.4), which fails 20 to 30 s after its peer is gone.

    ``address`` is one of ``getaddrinfo``. Options that the platform does not have are left out.
    """
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _IDLE,  # Linux; macOS calls it TCP_KEEPALIVE
        "TCP_KEEPALIVE": _IDLE,
        "TCP_KEEPINTVL": _INTERVAL,
        "TCP_KEEPCNT": (DEAD_AFTER - _IDLE) // _INTERVAL + 1,
        "TCP_USER_TIMEOUT": DEAD_AFTER * 1000,  # Linux (RFC 5482): unacknowledged data, in ms
    }
    for name, value in options.items():
        option = getattr(socket, name, None)
        if option is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened


class SilenceLimit:
    """Fails a stream that delivers nothing for ``seconds``; a context manager.

    The caller reports each delivery through ``heard``. There is one timer in that time, set again for
    what is left of it: the HTTP library's own read time-out sets one for each packet, which for a
    watch is a good part of the cost of an event.
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
        """Note that the stream has delivered something."""
        self._heard_at = self._loop.time()

    def _check(self) -> None:
        left = self._heard_at + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._stream.set_exception(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))
