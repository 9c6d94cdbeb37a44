"""A silent stream fails after its limit; a dead peer is noticed by the kernel."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast
from unittest import mock

import aiohttp
import pytest

from oz_agent_worker.worker.backends.kubernetes.api.transport import (
    DEAD_AFTER,
    is_tls_failure,
    is_untrusted,
    open_socket,
    silence_limit,
)


class Clock:
    """An event loop's clock and its timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> mock.Mock:
        entry = (self.now + delay, callback)
        self.timers.append(entry)
        return mock.Mock(cancel=lambda: self.cancel(entry))

    def cancel(self, entry: tuple[float, Any]) -> None:
        if entry in self.timers:
            self.timers.remove(entry)

    def move_to(self, now: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= now]:
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = now


class Stream:
    """Takes the error that ends it."""

    error: BaseException | None = None

    def set_exception(self, error: BaseException) -> None:
        self.error = error


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


@pytest.fixture
def stream() -> Stream:
    return Stream()


def limit(stream: Stream) -> AbstractContextManager[Callable[[], None]]:
    return silence_limit(cast("aiohttp.StreamReader", stream), 10.0)


def test_silence_from_the_beginning_counts(clock: Clock, stream: Stream) -> None:
    with limit(stream):
        clock.move_to(109.9)
        assert stream.error is None
        clock.move_to(110.0)
        assert isinstance(stream.error, aiohttp.SocketTimeoutError)


def test_what_is_heard_begins_the_time_anew_without_another_timer(clock: Clock, stream: Stream) -> None:
    with limit(stream) as heard:
        for moment in (103.0, 106.0, 109.0):
            clock.move_to(moment)
            heard()
            assert len(clock.timers) == 1
        clock.move_to(118.9)
        assert stream.error is None
        clock.move_to(119.0)
        assert isinstance(stream.error, aiohttp.SocketTimeoutError)


def test_the_limit_counts_from_the_last_delivery(clock: Clock, stream: Stream) -> None:
    with limit(stream) as heard:
        clock.move_to(103.0)
        heard()
        clock.move_to(112.9)
        assert stream.error is None
        clock.move_to(113.0)
        assert isinstance(stream.error, aiohttp.SocketTimeoutError)


def test_at_its_end_nothing_is_left(clock: Clock, stream: Stream) -> None:
    with limit(stream):
        pass
    assert clock.timers == []


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


def caused(outer: Exception, cause: Exception | None) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "tls", "untrusted"),
    [
        (None, False, False),
        (OSError("no route"), False, False),
        (ssl.SSLCertVerificationError("unknown authority"), True, True),
        (ssl.SSLError("alert: certificate required"), True, False),
        (caused(aiohttp.ClientError("x"), ssl.SSLCertVerificationError("y")), True, True),
        (caused(aiohttp.ClientOSError("x"), caused(OSError("y"), ssl.SSLError("z"))), True, False),
        (caused(aiohttp.ClientError("x"), OSError("y")), False, False),
    ],
)
def test_k1_a_failure_of_tls_is_found_behind_the_librarys_own_errors(
    error: Exception | None, tls: bool, untrusted: bool
) -> None:
    assert (is_tls_failure(error), is_untrusted(error)) == (tls, untrusted)
