"""The control plane as one object: the composition root.

::

    users, agents -- HTTP -------> api ---------+
                                                +--> store <--- dispatcher, lease keeper
    workers -------- WebSocket --> gateway -----+    (rules)
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.applications import Starlette

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError, PreflightError
from oz_agent_worker.protocol.frames import MAX_FRAME_BYTES

from .api.routes import WORKER_SOCKET, build_app
from .gateway.dispatcher import Dispatcher
from .gateway.frame_handler import FrameHandler
from .gateway.lease_keeper import LeaseKeeper
from .gateway.services import Services
from .gateway.worker_socket import WorkerSocket
from .settings import ControlPlaneSettings, url_of
from .store import keys
from .store.database import Database
from .store.engine import exclusive
from .store.keys import ApiKey
from .times import Clock, system_clock

__all__ = ["ControlPlane"]

_log = logging.getLogger(__name__)

#: Seconds that open requests get to finish when the server stops.
_SHUTDOWN_SECONDS: Final = 1
#: Seconds between two pings, and from a ping to its pong: without it the connection is closed.
_PING_SECONDS: Final = 20.0
#: Least characters of a key that an operator chose: 128 bits as hexadecimal digits.
_SHORTEST_KEY: Final = 32


class ControlPlane:
    """A control plane that listens while its ``async with`` block runs.

    It handles no signals and starts no event loop, so it can be a part of another program.
    """

    def __init__(self, settings: ControlPlaneSettings, *, clock: Clock = system_clock) -> None:
        self.settings = settings
        self._clock = clock
        self._stack = AsyncExitStack()
        self._port = settings.port

    async def __aenter__(self) -> Self:
        """Open the database and listen.

        Raises:
            ConfigError: the database URL is not valid.
            PreflightError: the address or the database cannot be used.
        """
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        _log.info("control plane listening on %s", self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        _log.info("control plane stopped")

    @property
    def url(self) -> str:
        """The base URL for programs on this machine."""
        return url_of(self.settings.host, self._port)

    @property
    def public_url(self) -> str:
        """The base URL for agents and workers elsewhere."""
        return (self.settings.public_url or self.url).rstrip("/")

    @property
    def websocket_url(self) -> str:
        """The URL for workers on this machine; they add their ``worker_id`` as a query parameter."""
        return "ws" + self.url.removeprefix("http") + WORKER_SOCKET

    async def serve_forever(self) -> None:
        """Wait until cancelled. Raises the server's error if it ends by itself."""
        await asyncio.shield(self._serving)

    async def create_api_key(self, name: str) -> Secret:
        """Create an API key. Only its hash is stored, so it cannot be read again."""
        stored, key = await self._database.write(keys.create_key, name, self._clock())
        _log.info("API key %s created: %s", stored.id, name)
        return key

    async def ensure_api_key(self, name: str, key: Secret) -> ApiKey:
        """Store a key that the operator chose, unless it is stored already.

        Raises:
            ConfigError: the key is too short to be random.
        """
        if len(key.reveal()) < _SHORTEST_KEY:
            raise ConfigError(f"an API key must have at least {_SHORTEST_KEY} characters")
        return await self._database.write(keys.ensure_key, name, key, self._clock())

    async def list_api_keys(self) -> list[ApiKey]:
        """All keys, including revoked ones."""
        return await self._database.read(keys.list_keys)

    async def revoke_api_key(self, key_id: str) -> bool:
        """Revoke a key and close the connections opened with it; False if no valid key has this ID."""
        revoked = await self._database.write(keys.revoke_key, key_id, self._clock())
        if revoked:
            _log.info("API key %s revoked", key_id)
            self._connections.drop_key(key_id)
        return revoked

    async def _start(self, stack: AsyncExitStack) -> None:
        """Build the parts and start them, the listening socket last; ``stack`` stops them in reverse."""
        stack.enter_context(exclusive(self.settings.database_url))
        self._database = await Database.open(self.settings.database_url)
        stack.push_async_callback(self._database.close)

        services = Services(settings=self.settings, database=self._database, clock=self._clock)
        lease_keeper = LeaseKeeper(services)
        dispatcher = Dispatcher(services, lease_keeper)
        frame_handler = FrameHandler(services, lease_keeper)
        app = build_app(services, WorkerSocket(services, lease_keeper, frame_handler))
        self._connections = services.connections

        await lease_keeper.start()
        stack.push_async_callback(lease_keeper.stop)
        dispatching = asyncio.create_task(dispatcher.run(), name="dispatcher")
        stack.push_async_callback(cancel_and_wait, dispatching)

        listener = await asyncio.to_thread(_listen, self.settings.host, self.settings.port)
        stack.callback(listener.close)
        self._port = listener.getsockname()[1]
        server = _Server(_server_config(app))
        self._serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        stack.push_async_callback(server.stop, self._serving)
        stack.callback(services.subscribers.close)
        await server.ready.wait()


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the program around it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def stop(self, serving: "asyncio.Task[None]") -> None:
        """Close every connection, and wait until the server has ended."""
        self.should_exit = True
        await serving


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn is one: it also has an error for each handshake that was refused."""
    return record.msg != "ASGI callable returned without completing handshake."


def _server_config(app: Starlette) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        # A frame just over the limit is read, so that it can be logged and ignored. One twice
        # as large ends the connection.
        ws_max_size=2 * MAX_FRAME_BYTES,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket. Raises PreflightError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise PreflightError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return listener
