"""Sockets that notice when nothing is at the other end any more.

A watch is silent for minutes, and so is a network that drops packets: a router that forgot the
connection, a node that lost its power. The kernel tells the two apart, without a byte of HTTP.
"""

import socket
from typing import Final

from aiohttp import AddrInfoType

__all__ = ["DEAD_AFTER", "open_socket"]

_IDLE: Final = 10
_INTERVAL: Final = 5

DEAD_AFTER: Final = 20
"""After how many seconds without any answer to its packets a connection counts as lost."""


def open_socket(address: AddrInfoType) -> socket.socket:
    """Open a socket for an address of ``getaddrinfo``: TCP keep-alive (RFC 9293, 3.8.4), within 20 to 30 s.

    What the platform does not have is left out.
    """
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _IDLE,  # Linux; macOS calls it TCP_KEEPALIVE
        "TCP_KEEPALIVE": _IDLE,
        "TCP_KEEPINTVL": _INTERVAL,
        "TCP_KEEPCNT": (DEAD_AFTER - _IDLE) // _INTERVAL + 1,
        "TCP_USER_TIMEOUT": DEAD_AFTER * 1000,  # Linux (RFC 5482): data that nobody acknowledges, in ms
    }
    for name, value in options.items():
        option = getattr(socket, name, None)
        if option is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened
