"""Connections that lead nowhere are noticed by the kernel."""

import socket
import sys

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.sockets import DEAD_AFTER, open_socket


@pytest.mark.skipif(sys.platform != "linux", reason="the names of Linux")
def test_a_silent_connection_is_probed_and_given_up() -> None:
    with open_socket(
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    ) as opened:

        def option(name: str) -> int:
            return opened.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        probed = option("TCP_KEEPIDLE") + option("TCP_KEEPINTVL") * option("TCP_KEEPCNT")
        assert DEAD_AFTER <= probed <= 30
        assert option("TCP_USER_TIMEOUT") == DEAD_AFTER * 1000


def test_a_socket_of_the_sixth_version_is_opened_too() -> None:
    with open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 1, 0, 0))) as opened:
        assert opened.family is socket.AF_INET6
