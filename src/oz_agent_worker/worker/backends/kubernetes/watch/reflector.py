"""Keeps the objects of one resource type current: a list, and then a watch for ever.

Layers: ``client`` speaks HTTP, ``stream`` splits and decodes, ``store`` finds what changed, and this
module reconnects. A watch that ends continues from its last resource version, after a pause where it
failed. A relist follows where the server no longer has that version (410 Gone).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic

from oz_agent_worker.common.aio import cancel_and_wait
from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    GoneError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
    UntrustedServerError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import ObjectT, Resource
from oz_agent_worker.worker.backends.kubernetes.api.retry import (
    ONCE,
    REFUSAL_PATIENCE,
    GracePeriod,
    RetryPolicy,
    delays,
)
from oz_agent_worker.worker.events import WatchStatus

from .store import Change, Store
from .stream import LineSplitter, UndecodableEventError, WatchDecoder

__all__ = ["Reflector", "WatchSettings"]

_logger = logging.getLogger(__name__)

#: The reason of a restart after which the next step is a list, as metrics name it.
_RELIST: Final = "relist"
#: The longest pause, in seconds, after a watch that ended without an error (it may do so every second),
#: and while the start waits for the first one.
_SOON: Final = 1.0
#: The longest Retry-After of a 429 that is honoured, in seconds; an API server sends a few.
_LONGEST_RETRY_AFTER: Final = 30.0
#: How many seconds a watch may exceed its own times: a request's time-out, and a busy machine.
_SPARE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Times in seconds.

    The server ends a watch after ``timeout``, or up to the share ``spread`` of it sooner, so that
    many workers do not reconnect at once. A connection that is silent for ``slack`` longer than that
    is lost. ``page`` is how many objects a page of a list has. ``healthy_after`` is how long a watch
    must have been open to count as good although it delivered nothing. ``pauses`` are those after
    failures: the longest is how late the end of an outage may be noticed. For ``stale_patience`` a list
    that is older than what was seen before is read again; after that the server's history has gone
    back (a restored etcd). For ``refusal_patience`` a start that may not list or watch tries again.
    """

    timeout: float = 300.0
    spread: float = 0.1
    slack: float = 15.0
    page: int = 500
    healthy_after: float = 5.0
    stale_patience: float = 60.0
    refusal_patience: float = REFUSAL_PATIENCE
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first=0.2, longest=5.0))


class Reflector(Generic[ObjectT]):
    """Lists and watches one resource type in one namespace, for ever, and reports each change once.

    ``on_change`` is called for every change, in order. ``on_list`` is called after each list, once its
    differences are reported, with the monotonic time at which the list began: an object that existed
    then and is not in ``objects`` is deleted. Neither may block or raise.
    """

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource[ObjectT],
        namespace: str,
        label_selector: str,
        *,
        on_change: Callable[[Change[ObjectT]], None],
        on_list: Callable[[float], None] = lambda began: None,
        settings: WatchSettings | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._decoder = WatchDecoder(resource)
        self._namespace = namespace
        self._selector = label_selector
        self._on_change = on_change
        self._on_list = on_list
        self._settings = settings or WatchSettings()
        self._store: Store[ObjectT] = Store()
        self._task: asyncio.Task[None] | None = None
        self._first_watch: asyncio.Future[None] | None = None
        self._last_error: ApiError | None = None
        self._faults = FaultLog(_logger, f"the watch of {resource.plural}")
        self._skipped = FaultLog(_logger, f"an event of the watch of {resource.plural}")
        self._refusals = GracePeriod(self._settings.refusal_patience)
        self._staleness = GracePeriod(self._settings.stale_patience)
        self._has_received = False
        self._received_at = self._tried_at = time.monotonic()

    @property
    def objects(self) -> Mapping[str, ObjectT]:
        """The objects that exist, by name, as far as the server has reported them."""
        return self._store.objects

    def watch_status(self) -> WatchStatus:
        """The state of the watch. While the server cannot be reached it receives nothing, and is not idle."""
        settings, now = self._settings, time.monotonic()
        longest = settings.timeout + settings.slack + settings.pauses.longest
        return WatchStatus(
            self._resource.plural,
            running=self._task is not None and not self._task.done(),
            silent_for=now - self._received_at,
            idle_for=now - max(self._received_at, self._tried_at),
            idle_limit=longest + _SPARE,
            failing_for=self._faults.failing_for,
            problem=str(self._last_error or ""),
        )

    async def start(self, timeout: float) -> None:
        """List, and watch from there; return when the first watch is open.

        Errors that may pass are tried again for ``timeout`` seconds.

        Raises:
            ApiError: the list or the watch was refused, or the time is over.
        """
        self._first_watch = asyncio.get_running_loop().create_future()
        self._spawn()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._first_watch)
        except TimeoutError:
            await self.close()
            server = self._client.credentials.server
            raise self._last_error or UnreachableError(server, "no answer in time") from None
        except ApiError:
            await self.close()
            raise

    def relist(self) -> None:
        """Drop the watch and begin again with a consistent list."""
        self._store.require_relist()
        self._restart(_RELIST)

    def reconnect(self) -> None:
        """Drop the watch's connection, which may lead nowhere, and continue from where it was."""
        self._restart("error")

    def _restart(self, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()
            self._client.stats.restarted(self._resource.plural, reason)
            self._spawn()

    async def close(self) -> None:
        """End the watch."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    def _spawn(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"reflector {self._resource.plural}")

    async def _run(self) -> None:
        pauses = delays(self._settings.pauses)
        while True:
            began = self._tried_at = time.monotonic()
            self._has_received = False
            pause: float | None = None
            try:
                await self._list_and_watch()
                self._client.stats.restarted(self._resource.plural, "ended")
            except ApiError as error:
                if self._fails_the_start(error):
                    return
                pause = self._after_error(error)
            except Exception as error:  # noqa: BLE001 (logged with its traceback)
                # Any error: a watch that ends unnoticed would be worse.
                self._faults.failed("failed, and starts again with a list", repr(error), traceback=error)
                self._store.require_relist()
                self._client.stats.restarted(self._resource.plural, _RELIST)
                pause = 0.0
            if self._has_received or time.monotonic() - began >= self._settings.healthy_after:
                pauses = delays(self._settings.pauses)
                if pause is None:
                    continue
            delay = next(pauses)
            if pause is None or self._is_starting():
                delay = min(delay, _SOON)
            await asyncio.sleep(max(delay, pause or 0.0))

    async def _list_and_watch(self) -> None:
        """List where the store requires it, then watch until the watch ends."""
        if self._store.resource_version is None:
            await self._list()
        version = self._store.resource_version
        assert version is not None, "a list sets the version"
        early = random.uniform(0, self._settings.spread)  # noqa: S311 - spreads load, guards nothing
        timeout = self._settings.timeout * (1 - early)
        async with self._client.watch(
            self._resource,
            self._namespace,
            label_selector=self._selector,
            resource_version=version,
            timeout_seconds=max(1, round(timeout)),
            silence=timeout + self._settings.slack,
        ) as chunks:
            self._on_open()
            splitter = LineSplitter()
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    self._on_line(line)

    def _on_open(self) -> None:
        if self._first_watch is not None and not self._first_watch.done():
            self._first_watch.set_result(None)
        self._last_error = None
        self._faults.works()
        self._client.stats.watches[self._resource.plural] += 1
        self._received_at = time.monotonic()

    def _on_line(self, line: bytes) -> None:
        try:
            event = self._decoder.decode(line)
        except UndecodableEventError as error:
            # The other events are still useful; the consistency check finds what this one reported.
            self._skipped.occurred("is skipped", error)
            return
        self._has_received = True
        self._received_at = time.monotonic()
        if event is not None:
            self._report(self._store.apply(event))

    def _report(self, changes: Iterable[Change[ObjectT]]) -> None:
        for change in changes:
            self._on_change(change)

    async def _list(self) -> None:
        """Read the whole collection, page by page, all pages as of one version."""
        began = time.monotonic()
        items: list[ObjectT] = []
        version = ""
        async for page in self._client.pages(
            self._resource,
            self._namespace,
            label_selector=self._selector,
            limit=self._settings.page,
            policy=ONCE,
        ):
            self._received_at = time.monotonic()
            items.extend(page.items or ())
            version = page.metadata.resource_version or ""
        self._client.stats.lists[self._resource.plural] += 1
        self._check_list(version)
        self._report(self._store.replace(items, version))
        self._on_list(began)

    def _check_list(self, version: str) -> None:
        """Refuse a list that is not current: it would report deletions that never happened.

        Raises:
            ApiStatusError: it has no version, or an older one than what was seen already.
        """
        if not version:
            raise self._bad_list("Undecodable", "the list has no version: something else answered")
        if not self._store.is_outdated(version):
            self._staleness.reset()
            return
        if not self._staleness.is_over():
            raise self._bad_list(
                "Stale", f"the list is of version {version}, older than what was seen already"
            )
        _logger.warning("the history of %s has gone back to version %s", self._resource.plural, version)
        self._staleness.reset()

    def _bad_list(self, reason: str, message: str) -> ApiStatusError:
        return ApiStatusError(200, reason, message, verb="list", path=self._resource.plural)

    def _is_starting(self) -> bool:
        """Whether ``start`` waits for the first watch."""
        return self._first_watch is not None and not self._first_watch.done()

    def _fails_the_start(self, error: ApiError) -> bool:
        """Have ``start`` raise an error that will not pass; false where it may, or after the start."""
        may_pass = error.transient or isinstance(error, GoneError)
        if not self._is_starting() or may_pass or self._refusals.covers(error):
            return False
        assert self._first_watch is not None
        self._first_watch.set_exception(error)
        return True

    def _after_error(self, error: ApiError) -> float:
        """Decide what the next attempt begins with; return the shortest pause before it, in seconds.

        That is the server's Retry-After. In a 503 it is a guess, such as a load balancer's in its page
        for an outage, so that it counts no longer than the longest pause of the settings.
        """
        name = self._resource.plural
        if not isinstance(error, GoneError):
            self._faults.failed(_problem(error), error)
        self._last_error = error
        needs_relist = _needs_relist(error)
        self._client.stats.restarted(name, _RELIST if needs_relist else "error")
        if needs_relist:
            _logger.info("the watch of %s starts again with a list: %s", name, error)
            self._store.require_relist()
        overloaded = isinstance(error, TooManyRequestsError)
        longest = _LONGEST_RETRY_AFTER if overloaded else self._settings.pauses.longest
        return min(error.retry_after or 0.0, longest)


def _problem(error: ApiError) -> str:
    """Name the kind of an error, for the log."""
    if isinstance(error, UnauthorizedError | ForbiddenError):
        return (
            "is refused and tried again (an API server that has just started may not have read its roles yet)"
        )
    return "cannot verify the API server" if isinstance(error, UntrustedServerError) else "is interrupted"


def _needs_relist(error: ApiError) -> bool:
    """Whether watching on from the same version is pointless.

    410 says so. Any other refusal of a watch that was open before may be about its version as
    well, such as one newer than a restored etcd has, which the server answers with a time-out
    that it explains; a refusal of the identity or for load is not.
    """
    if isinstance(error, TooManyRequestsError) or not isinstance(error, ApiStatusError):
        return False
    if isinstance(error, ServerError):
        return "resource version" in error.message.lower()
    return error.code not in (401, 403)
