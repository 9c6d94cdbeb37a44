"""The control plane as one object: opens the store, listens, dispatches, and shuts down."""

import asyncio
import logging
import socket
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

import uvicorn

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError, PreflightError
from oz_agent_worker.protocol.frames import MAX_FRAME_BYTES

from .api.routes import build_app
from .gateway.connections import Connections
from .gateway.dispatcher import Dispatcher
from .gateway.frame_handler import FrameHandler
from .gateway.lease_keeper import LeaseKeeper
from .gateway.services import Services
from .gateway.subscribers import Subscribers
from .settings import ControlPlaneSettings, url_of
from .store import keys
from .store.database import Database
from .store.engine import exclusive
from .store.keys import ApiKey
from .store.tokens import hash_token, new_api_key
from .times import Clock, system_clock

__all__ = ["ControlPlane"]

_log = logging.getLogger(__name__)

_WORKER_PATH: Final = "/api/v1/selfhosted/worker/ws"
#: Open requests get so many seconds to finish once the server stops.
_SHUTDOWN_SECONDS: Final = 1
#: A connection whose peer does not answer a ping within 20 s of it, sent every 20 s, is dead.
_PING_SECONDS: Final = 20.0
#: The shortest key that an operator may bring: 128 bits as hexadecimal digits.
_SHORTEST_KEY: Final = 32


class ControlPlane:
    """A control plane that listens for as long as its ``async with`` block runs.

    It takes no signals and no event loop of its own, so that it can be a part of
    another program.
    """

    def __init__(self, settings: ControlPlaneSettings, *, clock: Clock = system_clock) -> None:
        self.settings = settings
        self._clock = clock
        self._stack = AsyncExitStack()
        self._port = settings.port

    async def __aenter__(self) -> Self:
        """Open the database and listen.

        Raises:
            ConfigError: the database URL cannot be used.
            PreflightError: the address or the database cannot be had.
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
        """Where workers on this machine connect; they add their ``worker_id``."""
        return "ws" + self.url.removeprefix("http") + _WORKER_PATH

    async def serve_forever(self) -> None:
        """Wait until cancelled. Raises what ends the server, should it end by itself."""
        await asyncio.shield(self._serving)

    async def create_api_key(self, name: str) -> Secret:
        """Make an API key. It is stored as a hash: this is the only time it can be read."""
        key = new_api_key()
        stored = await self._database.write(
            keys.add_key, str(uuid.uuid4()), name, hash_token(key), self._clock()
        )
        _log.info("API key %s created: %s", stored.id, name)
        return key

    async def ensure_api_key(self, name: str, key: Secret) -> ApiKey:
        """Store a key that the operator brings, unless it is there already.

        Raises:
            ConfigError: the key is too short to be random.
        """
        if len(key.reveal()) < _SHORTEST_KEY:
            raise ConfigError(f"an API key must have at least {_SHORTEST_KEY} characters")
        return await self._database.write(
            keys.ensure_key, str(uuid.uuid4()), name, hash_token(key), self._clock()
        )

    async def list_api_keys(self) -> list[ApiKey]:
        """All keys, the revoked ones too."""
        return await self._database.read(keys.list_keys)

    async def revoke_api_key(self, key_id: str) -> bool:
        """Revoke a key, and end the connections that came with it; False where none is valid."""
        revoked = await self._database.write(keys.revoke_key, key_id, self._clock())
        if revoked:
            _log.info("API key %s revoked", key_id)
            self._connections.drop_key(key_id)
        return revoked

    async def _start(self, stack: AsyncExitStack) -> None:
        """Open everything, the listening socket last; ``stack`` closes it in reverse."""
        stack.enter_context(exclusive(self.settings.database_url))
        self._database = await Database.open(self.settings.database_url)
        stack.push_async_callback(self._database.close)

        woken = asyncio.Event()
        self._connections = Connections(woken.set)
        subscribers = Subscribers()
        parts = (self.settings, self._database, self._connections)
        lease_keeper = LeaseKeeper(*parts, subscribers, self._clock, woken.set)
        await lease_keeper.start()
        stack.push_async_callback(lease_keeper.stop)
        frame_handler = FrameHandler(*parts, lease_keeper, subscribers, self._clock, woken.set)
        dispatcher = Dispatcher(*parts, lease_keeper, self._clock, woken)
        services = Services(
            settings=self.settings,
            database=self._database,
            connections=self._connections,
            lease_keeper=lease_keeper,
            subscribers=subscribers,
            frame_handler=frame_handler,
            clock=self._clock,
            wake=woken.set,
        )
        dispatching = asyncio.create_task(dispatcher.run(), name="dispatcher")
        stack.push_async_callback(cancel_and_wait, dispatching)

        listener = await asyncio.to_thread(_listen, self.settings.host, self.settings.port)
        stack.callback(listener.close)
        self._port = listener.getsockname()[1]
        server = _Server(_server_config(services))
        self._serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        stack.push_async_callback(server.stop, self._serving)
        stack.callback(subscribers.close)
        await server.ready.wait()


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to the program around it."""

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
        """Close every connection, and wait for the end."""
        self.should_exit = True
        await serving


def _server_config(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(services),
        ws="websockets-sansio",
        # A frame just over the limit is read, so that it can be logged and left out;
        # one twice as large ends the connection.
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
