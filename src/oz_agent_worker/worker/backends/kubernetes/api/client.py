"""Sends requests to the Kubernetes API over aiohttp; ``rest`` prepares them and interprets the answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, Unpack

import aiohttp

from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import LogPosition
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogTail
from oz_agent_worker.worker.backends.kubernetes.objects import JobView

from . import rest
from .connections import ApiConnections, new_session
from .credentials import Credentials
from .errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
)
from .log_tail import read_log
from .rest import EVENTS, JOBS, SECRETS, Answer, ItemList, ListOptions, ObjectT, Request, Resource
from .retry import RetryPolicy, retrying
from .stats import ApiStats
from .transport import silence_limit

__all__ = ["ClientSettings", "KubernetesClient"]

#: The most of a container's log that is kept, in bytes.
LOG_LIMIT: Final = 1024 * 1024

#: How many objects a page of a list has at most.
PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How many requests may be in flight, how long each may take (seconds), and how each kind is retried.

    More than 32 requests in flight only add latency (measured on one API server). Reads of logs and
    of events have places of their own, ``log_reads`` and ``event_reads``: no task waits for them to
    start or to be reported. The read of a log, with all requests for it, ends after ``log_total``. A
    followed log may be silent for ``log_silence`` before its connection counts as lost. A request
    whose answer was lost may be carried out within ``in_doubt``: by then the API server has given it
    up (kube-apiserver, ``--request-timeout``, 60 s).
    """

    in_flight: int = 32
    log_reads: int = 16
    event_reads: int = 8
    connect_timeout: float = 10.0
    request_timeout: float = 30.0
    log_total: float = 25.0
    log_silence: float = 300.0
    in_doubt: float = 65.0
    create: RetryPolicy = field(default_factory=lambda: RetryPolicy(budget=30.0))
    delete: RetryPolicy = field(default_factory=lambda: RetryPolicy(budget=300.0, longest=15.0))
    read: RetryPolicy = field(default_factory=lambda: RetryPolicy(budget=10.0))
    log: RetryPolicy = field(default_factory=lambda: RetryPolicy(budget=5.0))


class KubernetesClient:
    """A client of one API server; an async context manager.

    Requests share pooled connections, and ``settings`` limits how many of a kind are in flight; each
    watch and each followed log has a connection of its own.

    Raises:
        ApiError: from every method, where it names no other error.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        settings: ClientSettings | None = None,
        stats: ApiStats | None = None,
    ) -> None:
        self.credentials = credentials
        self.settings = settings or ClientSettings()
        self.stats = stats or ApiStats()
        self._places = asyncio.Semaphore(self.settings.in_flight)
        self._places_of: Mapping[str, asyncio.Semaphore] = {
            "pods/log": asyncio.Semaphore(self.settings.log_reads),
            EVENTS.plural: asyncio.Semaphore(self.settings.event_reads),
        }
        self._connections = ApiConnections(
            credentials,
            self.stats,
            self._new_session,
            connect_timeout=self.settings.connect_timeout,
            request_timeout=self.settings.request_timeout,
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Create the HTTP session; no request is sent.

        Raises:
            CredentialsError: the certificates cannot be loaded.
        """
        self._connections.open()

    async def close(self) -> None:
        """Close every connection; harmless when closed already."""
        await self._connections.close()

    def _new_session(self, ssl_context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        """Make the session of a pool; tests have one without a socket."""
        return new_session(ssl_context)

    async def create_job(self, namespace: str, manifest: Mapping[str, Any]) -> JobView:
        """Create a Job.

        Raises:
            AlreadyExistsError: a Job of this name exists. Where an answer was lost, this call may
                have created it.
        """
        request = rest.create(JOBS, namespace, manifest)
        return rest.decode(request, await self._send(request, self.settings.create), JOBS.decoder)

    async def create_secret(
        self, namespace: str, manifest: Mapping[str, Any], policy: RetryPolicy | None = None
    ) -> None:
        """Create a Secret where it does not exist: no two Secrets of tasks have the same name."""
        with suppress(AlreadyExistsError):
            await self._send(rest.create(SECRETS, namespace, manifest), policy or self.settings.create)

    async def get_job(self, namespace: str, name: str) -> JobView:
        """Read a Job."""
        request = rest.get(JOBS, namespace, name)
        return rest.decode(request, await self._send(request), JOBS.decoder)

    async def delete_job(
        self,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        policy: RetryPolicy | None = None,
    ) -> None:
        """Delete a Job and, through the garbage collector, its Pods.

        It succeeds where the Job does not exist, or exists with another ``uid``.
        """
        request = rest.delete(JOBS, namespace, name, uid=uid, propagation=propagation)
        try:
            await self._send(request, policy or self.settings.delete)
        except NotFoundError:
            return
        except ConflictError:
            if uid is None:
                raise

    async def list_events(self, namespace: str, field_selector: str) -> list[EventView]:
        """Read all events that ``field_selector`` selects, such as ``involvedObject.kind=Pod``."""
        return await self.list_all(EVENTS, namespace, field_selector=field_selector)

    async def list_events_about(
        self, namespace: str, value: str, *, field: str = "involvedObject.uid"
    ) -> list[EventView]:
        """Read the events about the object whose ``field`` has this value, its UID by default.

        One page is read at most, because the number of events has no bound.
        """
        page = await self.list_page(EVENTS, namespace, field_selector=f"{field}={value}", limit=PAGE)
        return list(page.items or ())

    async def list_all(
        self, resource: Resource[ObjectT], namespace: str, **options: Unpack[ListOptions]
    ) -> list[ObjectT]:
        """Read a whole list, page by page."""
        pages = self.pages(resource, namespace, **options)
        return [item async for page in pages for item in page.items or ()]

    async def pages(
        self,
        resource: Resource[ObjectT],
        namespace: str,
        *,
        policy: RetryPolicy | None = None,
        **options: Unpack[ListOptions],
    ) -> AsyncIterator[ItemList[ObjectT]]:
        """Yield the pages of a list, all as of one version (Kubernetes API concepts, chunks)."""
        token: str | None = None
        while True:
            of_page: ListOptions = {"limit": PAGE, **options, "continue_token": token}
            page = await self.list_page(resource, namespace, policy=policy, **of_page)
            yield page
            token = page.metadata.continue_token
            if not token:
                return

    async def list_page(
        self,
        resource: Resource[ObjectT],
        namespace: str,
        *,
        policy: RetryPolicy | None = None,
        **options: Unpack[ListOptions],
    ) -> ItemList[ObjectT]:
        """Read one page of a list; see ``rest.list_page``."""
        request = rest.list_page(resource, namespace, **options)
        return rest.decode(request, await self._send(request, policy), resource.list_decoder)

    async def read_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        limit_bytes: int = LOG_LIMIT,
        timestamps: bool = False,
        after: LogPosition | None = None,
    ) -> LogTail:
        """Read a container's log and keep its last ``limit_bytes``; little more is read of a longer one.

        With ``after`` it is read from that position on, and its output is kept without timestamps. The
        wait for a place is a part of ``settings.log_total``. See ``log_tail.read_log``.
        """
        prepare = partial(
            rest.read_log,
            namespace,
            pod,
            container,
            timestamps=timestamps or after is not None,
            since=after.since if after is not None else None,
        )

        async def receive(request: Request, log: LogTail) -> None:
            async with self._place(request), self._connections.send(request, None) as response:
                async for chunk in self._connections.chunks(response):
                    log.feed(chunk)

        settings = self.settings
        return await read_log(
            prepare, receive, limit=limit_bytes, after=after, policy=settings.log, total=settings.log_total
        )

    @asynccontextmanager
    async def follow_log(
        self, namespace: str, pod: str, container: str, *, since: str | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Follow a container's log, with timestamps, from ``since`` (RFC 3339) until the container ends.

        The connection counts as lost after ``settings.log_silence`` seconds without a byte.
        """
        request = rest.read_log(namespace, pod, container, follow=True, timestamps=True, since=since)
        silence = self.settings.log_silence
        # The kubelet sends its headers with the log's first line, which may come late.
        async with self._connections.send(request, None, patience=silence) as response:
            with silence_limit(response.content, silence) as on_data:
                yield self._connections.chunks(response, on_data)

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource[Any],
        namespace: str,
        *,
        label_selector: str,
        resource_version: str,
        timeout_seconds: int,
        silence: float,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; gives its bytes in chunks, as they arrive.

        The server ends it after ``timeout_seconds``. After ``silence`` seconds without a byte the
        connection counts as lost (``UnreachableError``).
        """
        request = rest.watch(
            resource,
            namespace,
            label_selector=label_selector,
            resource_version=resource_version,
            timeout_seconds=timeout_seconds,
        )
        async with self._connections.send(request, None) as response:
            with silence_limit(response.content, silence) as on_data:
                yield self._connections.chunks(response, on_data)

    async def exchange(self, request: Request, policy: RetryPolicy | None = None) -> Answer:
        """Send a prepared request until it succeeds or the policy (``read``) gives up."""

        async def attempt() -> Answer:
            timeout = self.settings.request_timeout
            async with self._place(request), self._connections.send(request, timeout) as response:
                body = await self._connections.read(response)
                warnings = rest.warning_texts(response.headers.getall("Warning", ()))
                return Answer(body, warnings, response.headers.get("Date"))

        return await retrying(attempt, policy or self.settings.read)

    def _place(self, request: Request) -> asyncio.Semaphore:
        return self._places_of.get(request.resource, self._places)

    async def _send(self, request: Request, policy: RetryPolicy | None = None) -> bytes:
        return (await self.exchange(request, policy)).body
