"""How a lost connection is noticed: TCP keep-alive for a dead peer, a limit for a silent stream.

A healthy watch is silent for minutes, and so is a connection whose peer is gone: a router that
forgot it, a node that lost its power. The kernel's probes distinguish the two.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

__all__ = ["DEAD_AFTER", "is_tls_failure", "is_untrusted", "open_socket", "silence_limit"]

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


def is_tls_failure(error: BaseException | None) -> bool:
    """Whether TLS failed: the peer could not be verified, or did not accept the client's certificate."""
    return _caused_by(error, ssl.SSLError)


def is_untrusted(error: BaseException | None) -> bool:
    """Whether the server's certificate could not be verified."""
    return _caused_by(error, ssl.SSLCertVerificationError)


def _caused_by(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether an error, or one that it comes from, is of this kind. An aiohttp error keeps its cause."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def silence_limit(stream: aiohttp.StreamReader, seconds: float) -> Iterator[Callable[[], None]]:
    """Fail a stream that delivers nothing for ``seconds``; gives what to call at each delivery.

    There is one timer in that time, set again for what is left of it. The HTTP library's own read
    time-out sets one for each packet, which for a watch is a good part of the cost of an event.
    """
    loop = asyncio.get_running_loop()
    received_at = loop.time()
    timer: asyncio.TimerHandle

    def on_data() -> None:
        nonlocal received_at
        received_at = loop.time()

    def check() -> None:
        nonlocal timer
        left = received_at + seconds - loop.time()
        if left > 0:
            timer = loop.call_later(left, check)
        else:
            stream.set_exception(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))

    timer = loop.call_later(seconds, check)
    try:
        yield on_data
    finally:
        timer.cancel()
