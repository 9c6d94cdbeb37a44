"""The connection on a scripted WebSocket, in virtual time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import WSMessage, WSMsgType
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import AuthRefusedError, PreflightError
from oz_agent_worker.protocol.failure_reasons import RejectionReason
from oz_agent_worker.protocol.frames import Capability, WorkerHello
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Claim, Outbox
from oz_agent_worker.protocol.outcome import succeeded
from oz_agent_worker.protocol.report import ExecutionKey, TerminalReport
from oz_agent_worker.protocol.session import CancellationRequested, Delivered, Event
from oz_agent_worker.worker.connection import Connection, ConnectionSettings
from oz_agent_worker.worker.events import ConnectionChanged, Reconnecting, WorkerEvent
from tests.virtual_time import START, in_virtual_time

KEY = ExecutionKey("run", "run")
CANCELLATION = '{"type":"task_cancellation","data":{"task_id":"run"}}'


@dataclass
class ScriptedSocket:
    """A WebSocket whose peer is the test: it answers pings unless it is ``silent``."""

    silent: bool = False
    blocked: bool = False
    broken: OSError | None = None
    sent: list[str] = field(default_factory=list)
    pinged_at: list[float] = field(default_factory=list)
    closed: bool = False
    close_code: int | None = None
    _incoming: "asyncio.Queue[WSMessage]" = field(default_factory=asyncio.Queue)

    def say(self, kind: WSMsgType, data: Any = None) -> None:
        """Send a message to the worker."""
        self._incoming.put_nowait(WSMessage(kind, data, None))

    async def receive(self) -> WSMessage:
        return await self._incoming.get()

    async def send_str(self, text: str) -> None:
        await self._write()
        self.sent.append(text)

    async def ping(self, payload: bytes) -> None:
        await self._write()
        self.pinged_at.append(time.monotonic() - START)
        if not self.silent:
            self.say(WSMsgType.PONG, payload)

    async def pong(self, payload: bytes) -> None:
        await self._write()
        self.sent.append(f"pong {payload!r}")

    async def _write(self) -> None:
        if self.blocked:
            await asyncio.Event().wait()
        if self.broken is not None:
            raise self.broken

    def exception(self) -> BaseException:
        return ValueError("an odd opcode")


@dataclass
class Peer:
    """A control plane: each attempt to connect takes the next entry of ``script``, then fresh sockets.

    An entry is a socket, an error, or ``None`` for no answer at all.
    """

    script: deque[ScriptedSocket | Exception | None] = field(default_factory=deque)
    capabilities: str | None = None
    attempts: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    worker_events: list[WorkerEvent] = field(default_factory=list)
    socket: ScriptedSocket = field(default_factory=ScriptedSocket)
    outbox: Outbox = field(default_factory=Outbox)
    draw: Callable[[float, float], float] = lambda _low, high: high
    check: Callable[[frozenset[Capability]], None] = lambda _capabilities: None

    def connection(self, **changes: Any) -> Connection:
        """A connection to this peer; its jitter draws the longest delay."""
        settings = ConnectionSettings(url="wss://oz.test/ws", worker_id="w", api_key=Secret("k"), **changes)
        return Connection(
            settings,
            self,
            self.outbox,
            LogBuffers(),
            notify=self.worker_events.append,
            check_peer=self.check,
            monotonic=time.monotonic,
            uniform=self.draw,
            open_websocket=self._open,
        )

    def hello(self) -> WorkerHello:
        return WorkerHello(worker_id="w", version="1", backend="b")

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @asynccontextmanager
    async def _open(
        self, settings: ConnectionSettings
    ) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, str | None]]:
        self.attempts.append(round(time.monotonic() - START, 3))
        entry = self.script.popleft() if self.script else ScriptedSocket()
        if entry is None:
            await asyncio.Event().wait()
        if isinstance(entry, Exception):
            raise entry
        assert isinstance(entry, ScriptedSocket)
        self.socket = entry
        try:
            yield cast("aiohttp.ClientWebSocketResponse", entry), self.capabilities
        finally:
            entry.closed = True

    @property
    def reconnects(self) -> list[str]:
        """The reasons for which the worker connected again."""
        return [event.reason for event in self.worker_events if isinstance(event, Reconnecting)]

    @property
    def changes(self) -> list[bool]:
        """When there was a connection and when there was none."""
        return [event.connected for event in self.worker_events if isinstance(event, ConnectionChanged)]


@asynccontextmanager
async def running(connection: Connection) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a connection beside the test, and stop it at the end."""
    task = asyncio.create_task(connection.run())
    try:
        yield task
    finally:
        connection.stop()
        await asyncio.wait((task,))


def handshake(status: int) -> aiohttp.WSServerHandshakeError:
    """What aiohttp raises where the server answers with an HTTP error."""
    headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    request = aiohttp.RequestInfo(URL("https://oz.test/ws"), "GET", headers, URL("https://oz.test/ws"))
    return aiohttp.WSServerHandshakeError(request, (), status=status)


@in_virtual_time
async def test_it_connects_writes_what_is_due_and_hands_on_what_arrives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    peer = Peer(capabilities="hello")
    peer.outbox.add(Claim(KEY))
    peer.outbox.add(TerminalReport(KEY, succeeded()))
    connection = peer.connection()
    async with running(connection):
        await asyncio.sleep(0.1)
        kinds = [text.partition('","')[0] for text in peer.socket.sent]
        assert kinds == ['{"type":"worker_hello', '{"type":"task_claimed', '{"type":"task_completed']
        assert Delivered((TerminalReport(KEY, succeeded()),)) in peer.events
        peer.socket.say(WSMsgType.TEXT, CANCELLATION)
        peer.socket.say(WSMsgType.PING, b"7")
        await asyncio.sleep(0.1)
        assert peer.events[-1] == CancellationRequested("run")
        assert peer.socket.sent[-1] == "pong b'7'"
    assert caplog.messages[:2] == ["Connected to Oz at wss://oz.test/ws", "Listening for tasks"]
    assert peer.socket.closed
    assert peer.changes == [True, False]
    assert peer.reconnects == []


@in_virtual_time
async def test_it_reports_whether_it_is_connected() -> None:
    connection = Peer().connection()
    states = [connection.connected]
    async with running(connection):
        await asyncio.sleep(1)
        states.append(connection.connected)
    assert [*states, connection.connected] == [False, True, False]


@in_virtual_time
async def test_wake_writes_at_once_and_an_idle_connection_pings_every_30_seconds() -> None:
    peer = Peer()
    connection = peer.connection()
    async with running(connection):
        await asyncio.sleep(65)
        assert peer.socket.pinged_at == [30, 60]
        peer.outbox.add(Claim(KEY))
        connection.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(peer.socket.sent) == 1


@in_virtual_time
async def test_a_rejection_goes_out_on_the_connection_that_there_is_or_never() -> None:
    peer = Peer()
    connection = peer.connection()
    connection.reject(KEY, RejectionReason.AT_CAPACITY)
    async with running(connection):
        await asyncio.sleep(1)
        assert peer.socket.sent == []
        connection.reject(KEY, RejectionReason.SHUTTING_DOWN)
        await asyncio.sleep(1)
        (frame,) = peer.socket.sent
        assert '"reason":"at_capacity"' in frame  # the only reason that the public protocol has


@pytest.mark.parametrize("status", [401, 403])
@in_virtual_time
async def test_a_refused_key_is_tried_again_after_a_minute(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(deque([handshake(status), handshake(status)]))
    async with running(peer.connection()):
        await asyncio.sleep(121)
    assert peer.attempts == [0, 60, 120]
    assert peer.reconnects == ["dial_failed"] * 2
    refused = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(refused) == 1
    assert f"refused the API key (HTTP {status})" in refused[0].getMessage()


@in_virtual_time
async def test_k15_a_refused_key_is_said_and_then_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(deque([handshake(401)] * 600))
    async with running(peer.connection()):
        await asyncio.sleep(6 * 3600 + 100)
    assert len(peer.attempts) > 300
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1 + 6


@in_virtual_time
async def test_k15_a_connection_that_is_cut_every_minute_is_said_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    peer = Peer()
    async with running(peer.connection(dead_after=1e9, ack_timeout=1e9)):
        for _ in range(6 * 60):
            await asyncio.sleep(59)
            peer.socket.say(WSMsgType.CLOSE)
            await asyncio.sleep(1)
    assert len(peer.attempts) > 350
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2 + 5
    assert warned[1].startswith("Connection to Oz lost again, ")
    assert warned[2].startswith("Connection to Oz lost, 60 times in 1h; the last time: the peer closed")
    assert caplog.messages.count("Listening for tasks") == 3


@in_virtual_time
async def test_a_refused_key_ends_the_run_where_the_settings_say_so() -> None:
    peer = Peer(deque([handshake(401)]))
    with pytest.raises(AuthRefusedError, match="WARP_API_KEY"):
        await peer.connection(exit_on_auth_failure=True).run()


def extended_only(capabilities: frozenset[Capability]) -> None:
    if not capabilities:
        raise PreflightError("another control plane")


@in_virtual_time
async def test_a_first_peer_that_tasks_cannot_work_with_ends_the_run_before_anything_is_said() -> None:
    peer = Peer(check=extended_only)
    with pytest.raises(PreflightError, match="another control plane"):
        await peer.connection().run()
    assert (peer.attempts, peer.socket.sent, peer.socket.closed) == ([0], [], True)
    assert peer.changes == []


@in_virtual_time
async def test_a_later_peer_that_tasks_cannot_work_with_is_tried_again_after_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Peer(capabilities="hello", check=extended_only)
    async with running(peer.connection()):
        await asyncio.sleep(1)
        peer.capabilities = None
        peer.socket.say(WSMsgType.CLOSE)
        await asyncio.sleep(2)
        first = peer.socket
        peer.capabilities = "hello"
        await asyncio.sleep(60)
    assert peer.attempts == [0, 2, 62]
    assert (first.sent, first.closed) == ([], True)
    assert peer.changes == [True, False, True, False]
    assert "another control plane; next try in 60.0 s" in caplog.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (handshake(503), "wss://oz.test/ws answered HTTP 503"),
        (ConnectionRefusedError("refused"), "wss://oz.test/ws cannot be reached: refused"),
        (ValueError("odd"), "wss://oz.test/ws cannot be reached: odd"),
    ],
)
@in_virtual_time
async def test_a_dial_that_fails_says_why(
    error: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(deque([error]))
    async with running(peer.connection()):
        await asyncio.sleep(2)
    assert f"Connection to Oz lost: {text}; next try in 1.0 s" in caplog.messages
    assert peer.reconnects == ["dial_failed"]
    assert peer.changes == [True, False]


@in_virtual_time
async def test_a_peer_that_does_not_answer_the_handshake_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Peer(deque([None]))
    async with running(peer.connection()):
        await asyncio.sleep(22)
    assert peer.attempts == [0, 21]  # 20 s to connect, 1 s to the next try
    assert "Connection to Oz lost: no answer from wss://oz.test/ws; next try in 1.0 s" in caplog.messages


@in_virtual_time
async def test_the_delay_doubles_up_to_a_minute_and_starts_over_after_a_success() -> None:
    failures = [ConnectionRefusedError() for _ in range(8)]
    closing = ScriptedSocket()
    peer = Peer(deque([*failures, closing, ConnectionRefusedError()]))
    async with running(peer.connection()):
        await asyncio.sleep(184)
        assert peer.attempts == [0, 1, 3, 7, 15, 31, 63, 123, 183]
        closing.say(WSMsgType.CLOSED)
        await asyncio.sleep(3.5)
    assert peer.attempts[9:] == [185, 187]
    assert peer.reconnects[-2:] == ["remote_close", "dial_failed"]


@in_virtual_time
async def test_a_silent_peer_is_dead_after_60_seconds(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(deque([ScriptedSocket(silent=True)]))
    async with running(peer.connection()):
        await asyncio.sleep(61.5)
    assert peer.attempts == [0, 61]
    assert "Connection to Oz lost: silent for 60 s; next try in 1.0 s" in caplog.messages


@in_virtual_time
async def test_a_write_that_blocks_for_10_seconds_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Peer(deque([ScriptedSocket(blocked=True)]))
    peer.outbox.add(Claim(KEY))
    async with running(peer.connection()):
        await asyncio.sleep(11.5)
        assert peer.attempts == [0, 11]
        assert len(peer.socket.sent) == 1  # the claim, on the second connection
    assert "Connection to Oz lost: a write took over 10 s; next try in 1.0 s" in caplog.messages


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WSMsgType.CLOSE, "the peer closed (code 1011)"),
        (WSMsgType.ERROR, "the peer broke the protocol: an odd opcode"),
    ],
)
@in_virtual_time
async def test_the_peer_ends_the_connection(
    kind: WSMsgType, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    ending = ScriptedSocket(close_code=1011)
    peer = Peer(deque([ending]))
    ending.say(kind)
    async with running(peer.connection()):
        await asyncio.sleep(2)
    assert f"Connection to Oz lost: {text}; next try in 1.0 s" in caplog.messages
    assert peer.reconnects == ["remote_close"]
    assert peer.changes == [True, False, True, False]


@in_virtual_time
async def test_a_write_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(deque([ScriptedSocket(broken=BrokenPipeError("pipe"))]))
    peer.outbox.add(Claim(KEY))
    async with running(peer.connection()):
        await asyncio.sleep(2)
    assert "Connection to Oz lost: writing failed: pipe; next try in 1.0 s" in caplog.messages
    assert peer.socket.sent != []


@in_virtual_time
async def test_reconnect_now_ends_the_pause_and_shortens_those_that_follow() -> None:
    peer = Peer(deque(ConnectionRefusedError() for _ in range(9)))
    connection = peer.connection()
    async with running(connection):
        await asyncio.sleep(40)
        assert peer.attempts == [0, 1, 3, 7, 15, 31]
        connection.reconnect_now()
        await asyncio.sleep(2.5)
        assert peer.attempts[6:] == [40, 41, 42]


@in_virtual_time
async def test_stop_ends_a_pause_at_once() -> None:
    peer = Peer(deque([handshake(401)]))
    async with running(peer.connection()):
        await asyncio.sleep(1)
    assert time.monotonic() == START + 1


@in_virtual_time
async def test_stop_ends_a_dial_at_once() -> None:
    peer = Peer(deque([None]))
    async with running(peer.connection()):
        await asyncio.sleep(1)
    assert time.monotonic() == START + 1
    assert peer.attempts == [0]
    assert peer.worker_events == []


@in_virtual_time
async def test_stop_before_the_first_step_opens_nothing() -> None:
    peer = Peer()
    connection = peer.connection()
    connection.stop()
    await connection.run()
    assert peer.attempts == []
