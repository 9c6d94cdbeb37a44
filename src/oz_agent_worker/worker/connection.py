"""The I/O around ``protocol.session``: connect to the control plane, read and write, reconnect."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import aiohttp
from aiohttp import WSMsgType

from oz_agent_worker import __version__
from oz_agent_worker.common.aio import wait_first, wait_for_event
from oz_agent_worker.common.aiohttp_proxy import failure_text, proxy_options
from oz_agent_worker.common.backoff import full_jitter
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.common.proxy import Proxy
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import AuthRefusedError, PreflightError
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.failure_reasons import RejectionReason
from oz_agent_worker.protocol.frames import (
    CAPABILITIES_HEADER,
    MAX_FRAME_BYTES,
    Capability,
    parse_capabilities,
)
from oz_agent_worker.protocol.log_stream import LogBuffers
from oz_agent_worker.protocol.outbox import Outbox
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.protocol.session import ACK_TIMEOUT, DEAD_AFTER, PING_INTERVAL, Event, Session, Text

from . import events
from .events import Notify

__all__ = ["Connection", "ConnectionListener", "ConnectionSettings", "OpenWebSocket", "open_websocket"]

logger: Final = logging.getLogger(__name__)

_REFUSED: Final = frozenset({401, 403})
_CLOSE_TIMEOUT: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """Where to connect, through which proxy, and the protocol's times in seconds."""

    url: str
    worker_id: str
    api_key: Secret
    proxy: Proxy | None = None
    exit_on_auth_failure: bool = False
    connect_timeout: float = 20.0
    write_timeout: float = 10.0
    ping_interval: float = PING_INTERVAL
    dead_after: float = DEAD_AFTER
    ack_timeout: float = ACK_TIMEOUT
    retry_first: float = 1.0
    retry_cap: float = 60.0


class ConnectionListener(Protocol):
    """Gets what arrives on the connection. Neither method blocks nor raises."""

    def hello(self) -> frames.WorkerHello:
        """Describe the worker for the first frame of a connection."""

    def on_event(self, event: Event) -> None:
        """Act on what the control plane sent."""


#: A WebSocket with the capabilities header of its handshake's response.
OpenWebSocket: TypeAlias = Callable[
    [ConnectionSettings], AbstractAsyncContextManager[tuple[aiohttp.ClientWebSocketResponse, str | None]]
]


@asynccontextmanager
async def open_websocket(
    settings: ConnectionSettings,
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, str | None]]:
    """Open a worker's WebSocket, and close it at the end within ``_CLOSE_TIMEOUT`` seconds.

    Yields it with the capabilities header of the response. Raises what aiohttp raises.
    """
    headers: dict[str, str] = {}
    # An HTTP request: a proxy that is asked for the address does not know the schemes ws and wss.
    url = f"http{settings.url.removeprefix('ws')}" if settings.url.startswith("ws") else settings.url
    async with aiohttp.ClientSession(trace_configs=[_record_headers(headers)]) as http:
        socket = await http.ws_connect(
            url,
            params={"worker_id": settings.worker_id},
            headers={
                "Authorization": f"Bearer {settings.api_key.reveal()}",
                "User-Agent": f"oz-agent-worker/{__version__}",
            },
            **proxy_options(settings.proxy),
            autoping=False,
            max_msg_size=MAX_FRAME_BYTES,
        )
        try:
            yield socket, headers.get(CAPABILITIES_HEADER.lower())
        finally:
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await socket.close()


def _record_headers(into: dict[str, str]) -> aiohttp.TraceConfig:
    """Record the headers of the handshake's response: aiohttp's WebSocket does not show them."""

    async def on_end(
        _session: aiohttp.ClientSession, _context: object, params: aiohttp.TraceRequestEndParams
    ) -> None:
        into.update({name.lower(): value for name, value in params.response.headers.items()})

    config = aiohttp.TraceConfig()
    config.on_request_end.append(on_end)
    return config


class _ConnectionLostError(Exception):
    """The connection is over; the text says why."""


class _DialFailedError(_ConnectionLostError):
    """The connection could not be opened."""


class Connection:
    """Keeps one connection to the control plane for as long as ``run`` runs.

    What the peer has to receive is in ``outbox`` and ``logs``; ``wake`` says that there is
    something to write. ``check_peer`` refuses a peer by the capabilities of its handshake, with a
    ``PreflightError``. ``monotonic`` is a clock in seconds, ``uniform`` draws the jitter.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        listener: ConnectionListener,
        outbox: Outbox,
        logs: LogBuffers,
        *,
        notify: Notify = events.ignore_event,
        check_peer: Callable[[frozenset[Capability]], None] = lambda _capabilities: None,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        open_websocket: OpenWebSocket = open_websocket,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._outbox = outbox
        self._logs = logs
        self._notify = notify
        self._check_peer = check_peer
        self._accepted = False
        self._monotonic = monotonic
        self._uniform = uniform
        self._open_websocket = open_websocket
        self._session: Session | None = None
        self._faults = FaultLog(logger, "Connection to Oz", monotonic)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurrying = False
        self._pause_over = asyncio.Event()
        self._dialing: asyncio.Timeout | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._session is not None

    def wake(self) -> None:
        """Write what is due."""
        self._wake.set()

    def reject(self, key: ExecutionKey, reason: RejectionReason, message: str | None = None) -> None:
        """Hand a task back, on the connection that it was assigned on; ``message`` says what happened."""
        if self._session is not None:
            self._session.reject(key, reason, message)
            self.wake()

    def reconnect_now(self) -> None:
        """Connect at once and retry often: the worker shuts down and has reports to deliver."""
        self._hurrying = True
        self._pause_over.set()

    def stop(self) -> None:
        """Close the connection, or give up opening one, and let ``run`` return."""
        self._stopping.set()
        self._pause_over.set()
        if self._dialing is not None and not self._dialing.expired():
            self._dialing.reschedule(0.0)
        self.wake()

    async def run(self) -> None:
        """Stay connected until ``stop``.

        Raises:
            AuthRefusedError: the key was refused and the settings say to exit then.
            PreflightError: the first peer that answered is not one that the tasks can work with. Later
                such a peer is no reason to end: another one may answer the next time.
        """
        delays = self._delays()
        while not self._stopping.is_set():
            try:
                async with AsyncExitStack() as stack:
                    socket, header = await self._dial(stack)
                    capabilities = parse_capabilities(header)
                    self._check_peer(capabilities)
                    self._accepted = True
                    delays = self._delays()
                    await self._serve(socket, capabilities)
            except (AuthRefusedError, PreflightError) as error:
                refused = isinstance(error, AuthRefusedError)
                if self._settings.exit_on_auth_failure if refused else not self._accepted:
                    raise
                await self._pause(logging.ERROR, "refused", error, self._settings.retry_cap, "dial_failed")
            except _ConnectionLostError as error:
                if not self._stopping.is_set():
                    reason = "dial_failed" if isinstance(error, _DialFailedError) else "remote_close"
                    await self._pause(logging.WARNING, "lost", error, next(delays), reason)

    def _delays(self) -> Iterator[float]:
        return full_jitter(self._settings.retry_first, self._settings.retry_cap, self._uniform)

    async def _pause(self, level: int, problem: str, error: Exception, delay: float, reason: str) -> None:
        """Log why there is no connection, once, and wait; return early on ``reconnect_now`` or ``stop``."""
        if self._hurrying:
            delay = min(delay, self._settings.retry_first)
        self._faults.failed(problem, f"{error}; next try in {delay:.1f} s", level=level)
        self._notify(events.Reconnecting(reason))
        await wait_for_event(self._pause_over, delay)
        if not self._stopping.is_set():
            self._pause_over.clear()

    # -------------------------------------------------------------------- connecting

    async def _dial(self, stack: AsyncExitStack) -> tuple[aiohttp.ClientWebSocketResponse, str | None]:
        """Open the WebSocket; ``stack`` closes it.

        Raises:
            AuthRefusedError: the control plane refused the key.
            _DialFailedError: anything else went wrong, or ``stop`` was called.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout) as self._dialing:
                return await stack.enter_async_context(self._open_websocket(settings))
        except aiohttp.WSServerHandshakeError as error:
            if error.status in _REFUSED:
                raise AuthRefusedError(
                    f"the control plane at {settings.url} refused the API key (HTTP {error.status}): "
                    "check WARP_API_KEY, and that the key belongs to this team"
                ) from None
            raise _DialFailedError(f"{settings.url} answered HTTP {error.status}") from None
        except TimeoutError:
            raise _DialFailedError(f"no answer from {settings.url}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = failure_text(error, settings.proxy)
            raise _DialFailedError(f"{settings.url} cannot be reached: {cause}") from error
        finally:
            self._dialing = None

    async def _serve(
        self, socket: aiohttp.ClientWebSocketResponse, capabilities: frozenset[Capability]
    ) -> None:
        """Run a session on the WebSocket until the connection ends or ``stop``.

        Raises:
            _ConnectionLostError: it ended, and not because ``stop`` was called.
        """
        settings = self._settings
        session = self._session = Session(
            self._outbox,
            self._logs,
            worker_id=settings.worker_id,
            capabilities=capabilities,
            hello=self._listener.hello(),
            now=self._monotonic(),
            ping_interval=settings.ping_interval,
            dead_after=settings.dead_after,
            ack_timeout=settings.ack_timeout,
        )
        self._notify(events.ConnectionChanged(connected=True))
        # A connection that a proxy cuts every minute is counted by the log, not shown.
        level = logging.INFO if self._faults.works() else logging.DEBUG
        logger.log(level, "Connected to Oz at %s", settings.url)
        logger.log(level, "Listening for tasks")
        reading = asyncio.create_task(self._read(socket, session), name="connection-read")
        writing = asyncio.create_task(self._write(socket, session), name="connection-write")
        try:
            for error in await wait_first(reading, writing):
                if error is not None:
                    raise error
        finally:
            self._session = None
            self._notify(events.ConnectionChanged(connected=False))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, session: Session) -> None:
        while True:
            message = await socket.receive()
            now = self._monotonic()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self._listener.on_event(session.receive_text(message.data, now))
                case WSMsgType.PONG:
                    self._listener.on_event(session.receive_pong(bytes(message.data), now))
                    self.wake()  # a ping may have waited for the pong, and acks are due from here on
                case WSMsgType.PING:
                    session.receive_other(now)
                    await self._send(socket.pong(message.data))
                case WSMsgType.ERROR:
                    raise _ConnectionLostError(f"the peer broke the protocol: {socket.exception()}")
                case _:
                    raise _ConnectionLostError(f"the peer closed (code {socket.close_code})")

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, session: Session) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            for item in session.data_to_send(self._monotonic()):
                if isinstance(item, Text):
                    await self._send(socket.send_str(item.text))
                    _log_sent(item)
                else:
                    await self._send(socket.ping(item.payload))
            now = self._monotonic()
            if session.is_dead(now):
                raise _ConnectionLostError(f"silent for {self._settings.dead_after:.0f} s")
            await wait_for_event(self._wake, max(0.0, session.next_timer() - now))

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._settings.write_timeout):
                await sending
        except TimeoutError:
            raise _ConnectionLostError(f"a write took over {self._settings.write_timeout:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _ConnectionLostError(f"writing failed: {error}") from error


def _log_sent(item: Text) -> None:
    if item.key is None:
        logger.debug("Sent %s of %d characters", item.kind, len(item.text))
    else:  # the key among the arguments gives the line its fields
        logger.debug("Task %s: sent %s of %d characters", item.key, item.kind, len(item.text))
