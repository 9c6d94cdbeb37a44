"""Sends single requests over aiohttp: pools of connections, TLS contexts and credentials that change."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import aiohttp

from oz_agent_worker import __version__
from oz_agent_worker.common.aiohttp_proxy import failure_text, proxy_options

from . import rest
from .credentials import Credentials, CredentialsError
from .errors import UnauthorizedError, UnreachableError, UntrustedServerError
from .pool import Pool
from .rest import Request
from .stats import NO_ANSWER, ApiStats
from .transport import is_tls_failure, is_untrusted, open_socket

__all__ = ["ApiConnections", "new_session"]

#: Errors of a connection that could not be opened: no request was sent.
_NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)

USER_AGENT: Final = f"oz-agent-worker/{__version__}"


def new_session(ssl_context: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """Make the session of a pool; it limits nothing, so that a watch never waits for a connection."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, ssl=True if ssl_context is None else ssl_context, socket_factory=open_socket
        ),
        headers={"User-Agent": USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class ApiConnections:
    """The connections to one API server. Times are in seconds; ``stats`` counts each attempt.

    Raises:
        ApiError: from ``send``, ``read`` and ``chunks``.
    """

    def __init__(
        self,
        credentials: Credentials,
        stats: ApiStats,
        new_session: Callable[[ssl.SSLContext | None], aiohttp.ClientSession],
        *,
        connect_timeout: float,
        request_timeout: float,
    ) -> None:
        self._credentials = credentials
        self._stats = stats
        self._new_session = new_session
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._proxy_options = proxy_options(credentials.proxy)
        self._pools: list[Pool] = []

    def open(self) -> None:
        """Make the first pool; no request is sent.

        Raises:
            CredentialsError: the certificates cannot be loaded.
        """
        ssl_context = self._credentials.ssl_context()
        self._pools.append(Pool(self._new_session(ssl_context), self._credentials.context_version))

    async def close(self) -> None:
        """Close every connection; harmless when closed already."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.close()

    def _current_pool(self) -> Pool:
        """The pool to send with; another TLS context means another pool.

        A connection keeps the certificates that it was opened with. The pool before is closed when the
        last of its requests has ended: watches and followed logs live on in it.
        """
        assert self._pools, "the client is not open"
        if self._credentials.context_version != self._pools[-1].version:
            self._pools[-1].retire()
            self._pools = [pool for pool in self._pools if not pool.closed]
            self.open()
        return self._pools[-1]

    @asynccontextmanager
    async def send(
        self, request: Request, timeout: float | None, *, patience: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request and keep its successful answer open, for ``timeout`` seconds at most.

        The answer may take ``patience`` seconds to begin, ``request_timeout`` by default.
        """
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._connect_timeout)
        with ExitStack() as pool:
            response = await self._answered(request, limits, patience or self._request_timeout, pool)
            try:
                yield response
            finally:
                # An answer that was read to its end has returned its connection to the pool. Any other
                # one, such as a watch, is aborted: closing TLS properly could outlive the event loop.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()
                response.close()

    async def _answered(
        self, request: Request, timeout: aiohttp.ClientTimeout, patience: float, pool: ExitStack
    ) -> aiohttp.ClientResponse:
        """Send a request; once more, with the credentials as they are by then, where these were refused.

        Tokens expire, and certificates are replaced, at any time: a 401 renews them, and so does a
        server that cannot be verified.
        """
        version = self._credentials.context_version
        try:
            return await self._attempt(request, timeout, patience, pool, renew=False)
        except UnauthorizedError:
            return await self._attempt(request, timeout, patience, pool, renew=True)
        except UnreachableError as error:
            if not is_tls_failure(error.__cause__):
                raise
            self._credentials.read_again()
            if error.ambiguous or self._credentials.context_version == version:
                raise
        return await self._attempt(request, timeout, patience, pool, renew=False)

    async def _attempt(
        self,
        request: Request,
        timeout: aiohttp.ClientTimeout,
        patience: float,
        pool: ExitStack,
        *,
        renew: bool,
    ) -> aiohttp.ClientResponse:
        """Send a request; ``pool`` keeps its connection's pool open, and lets go of it on an error."""
        code, began = NO_ANSWER, time.monotonic()
        try:
            # Until its headers arrive even a watch is a request like any other.
            async with asyncio.timeout(patience):
                headers = await self._credentials.headers(force_refresh=renew)
                session = pool.enter_context(self._current_pool().in_use())
                response = await session.request(
                    request.method,
                    self._credentials.server + request.path,
                    params=request.query,
                    data=request.body,
                    headers={"Accept": request.accept, "Content-Type": "application/json", **headers},
                    timeout=timeout,
                    allow_redirects=False,
                    server_hostname=self._credentials.tls_server_name,
                    **self._proxy_options,
                )
                code = response.status
                if code >= 300:
                    retry_after = response.headers.get("Retry-After")
                    raise rest.error_of(request, code, await response.read(), retry_after)
        except CredentialsError as error:
            raise UnreachableError(self._credentials.server, str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            self._stats.answered(request.verb, request.resource, code, time.monotonic() - began)
            if not 0 < code < 300:
                pool.close()
        return response

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the whole body."""
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def chunks(
        self, response: aiohttp.ClientResponse, on_data: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; ``on_data`` is called before each chunk."""
        try:
            while chunk := await response.content.readany():
                on_data()
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        never_sent = isinstance(error, _NEVER_SENT)
        cause = failure_text(error, self._credentials.proxy)
        if is_untrusted(error):
            # The file is named: it is the one to look at.
            cause += f"; it was verified against {self._credentials.trust}"
            return UntrustedServerError(self._credentials.server, cause, ambiguous=not never_sent)
        return UnreachableError(self._credentials.server, cause, ambiguous=not never_sent)
