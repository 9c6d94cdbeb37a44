"""A collection of the API server, kept current here by one list and one watch.

Layers: the client speaks HTTP, ``watchstream`` cuts and decodes, ``watchstate`` knows what
changed, and this module reconnects: where it left off at a watch's normal end, after a
pause at an error, and through a list when the server no longer has that place (410 Gone).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic

from oz_agent_worker.common.aio import cancel_and_wait
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
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import ObjectT, Resource
from oz_agent_worker.worker.backends.kubernetes.api.retry import (
    ONCE,
    REFUSAL_PATIENCE,
    GracePeriod,
    RetryPolicy,
    delays,
)
from oz_agent_worker.worker.watch_status import WatchVitals

from .store import Change, ReflectorState
from .stream import EventDecoder, LineSplitter, UndecodableEventError

__all__ = ["Reflector", "WatchSettings"]

_logger = logging.getLogger(__name__)

#: A restart for which the place in the watch was lost, as metrics name it.
_RELIST: Final = "relist"
#: The longest pause, in seconds, after a watch that ended without an error (it may do so every second),
#: and while the start waits for the first one.
_SOON: Final = 1.0
#: The longest Retry-After of a 429 that is honoured, in seconds; an API server asks for a few.
_LONGEST_RETRY_AFTER: Final = 30.0
#: By how many seconds a watch may exceed its own times: a request's time-out, and a busy machine.
_SPARE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Times in seconds.

    The server is asked to end a watch after ``timeout`` (up to ``spread`` of it sooner, so
    that many workers do not return as one); a connection silent for ``slack`` longer than
    that is lost. ``healthy_after`` is how long a watch must stand to count as a good one
    though nothing came. ``pauses`` says how long to wait after failures: the longest is how late
    the end of an outage may be noticed. For ``stale_patience`` a list that is older than what was
    told before is asked for again; after that the server's history has gone back (a restored etcd).
    ``refusal_patience`` is for how long a start that may not list or watch asks again.
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
    """Lists and watches one resource type in one namespace, for ever, and tells each change once.

    ``on_change`` hears every difference, in order. ``on_listed`` hears after each list, once its
    differences are told, at which monotonic time that list had begun: what stood then and is
    not in ``objects`` is gone. Neither may block or raise.
    """

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource[ObjectT],
        namespace: str,
        label_selector: str,
        *,
        on_change: Callable[[Change[ObjectT]], None],
        on_listed: Callable[[float], None] = lambda began: None,
        settings: WatchSettings | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._decoder = EventDecoder(resource)
        self._namespace = namespace
        self._selector = label_selector
        self._on_change = on_change
        self._on_listed = on_listed
        self._settings = settings or WatchSettings()
        self._state: ReflectorState[ObjectT] = ReflectorState()
        self._task: asyncio.Task[None] | None = None
        self._standing: asyncio.Future[None] | None = None
        self._last_error: ApiError | None = None
        self._refused = False
        self._refusals = GracePeriod(self._settings.refusal_patience)
        self._staleness = GracePeriod(self._settings.stale_patience)
        self._heard = False
        self._heard_at = self._turned_at = time.monotonic()

    @property
    def objects(self) -> Mapping[str, ObjectT]:
        """What stands, by name, as far as the server has told."""
        return self._state.objects

    def vitals(self) -> WatchVitals:
        """How the watch is. A server that cannot be reached makes it deaf, and does not make it idle."""
        settings, now = self._settings, time.monotonic()
        longest = settings.timeout + settings.slack + settings.pauses.longest
        return WatchVitals(
            self._resource.plural,
            running=self._task is not None and not self._task.done(),
            unheard_for=now - self._heard_at,
            idle_for=now - max(self._heard_at, self._turned_at),
            idle_limit=longest + _SPARE,
        )

    async def start(self, patience: float) -> None:
        """List, and watch from there; return when the first watch stands.

        Errors that may pass are tried again for ``patience`` seconds.

        Raises:
            ApiError: the list or the watch was refused, or the patience is used up.
        """
        self._standing = asyncio.get_running_loop().create_future()
        self._task = self._spawn()
        try:
            async with asyncio.timeout(patience):
                await asyncio.shield(self._standing)
        except TimeoutError:
            await self.close()
            server = self._client.credentials.server
            raise self._last_error or UnreachableError(server, "no answer in time") from None
        except ApiError:
            await self.close()
            raise

    def restart(self) -> None:
        """Let go of the watch and begin again with a consistent list."""
        self._state.forget()
        self._renew(_RELIST)

    def resume(self) -> None:
        """Let go of the watch's connection, which may lead nowhere, and watch on from where it was."""
        self._renew("error")

    def _renew(self, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()
            self._client.stats.restarted(self._resource.plural, reason)
            self._task = self._spawn()

    async def close(self) -> None:
        """End the watch."""
        task, self._task = self._task, None
        await cancel_and_wait(task)

    def _spawn(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(), name=f"reflector {self._resource.plural}")

    async def _run(self) -> None:
        pauses = delays(self._settings.pauses)
        while True:
            began = self._turned_at = time.monotonic()
            self._heard = False
            pause: float | None = None
            try:
                await self._follow()
                self._client.stats.restarted(self._resource.plural, "ended")
            except ApiError as error:
                if self._refused_at_start(error):
                    return
                pause = self._after_error(error)
            except Exception:
                # Whatever this is, a watch that ends without a word would be worse.
                _logger.exception(
                    "the watch of %s failed; it begins again with a list", self._resource.plural
                )
                self._state.forget()
                self._client.stats.restarted(self._resource.plural, _RELIST)
                pause = 0.0
            if self._heard or time.monotonic() - began >= self._settings.healthy_after:
                pauses = delays(self._settings.pauses)
                if pause is None:
                    continue
            delay = next(pauses)
            if pause is None or self._is_awaited():
                delay = min(delay, _SOON)
            await asyncio.sleep(max(delay, pause or 0.0))

    async def _follow(self) -> None:
        """List if need be, then watch until the watch ends."""
        if self._state.resource_version is None:
            await self._list()
        version = self._state.resource_version
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
            self._stands()
            splitter = LineSplitter()
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    self._take(line)

    def _stands(self) -> None:
        if self._standing is not None and not self._standing.done():
            self._standing.set_result(None)
        elif self._last_error is not None:
            _logger.info("the watch of %s stands again", self._resource.plural)
        self._last_error = None
        self._refused = False
        self._client.stats.watches[self._resource.plural] += 1
        self._heard_at = time.monotonic()

    def _take(self, line: bytes) -> None:
        try:
            event = self._decoder.decode(line)
        except UndecodableEventError as error:
            # The rest of the watch is worth having; the check of the in-flight set finds what this one said.
            _logger.warning("an event of the watch of %s is skipped: %s", self._resource.plural, error)
            return
        self._heard = True
        self._heard_at = time.monotonic()
        if event is None:
            return
        for change in self._state.apply_event(event):
            self._on_change(change)

    async def _list(self) -> None:
        """Read the whole collection, page by page, all pages as of one version."""
        began = time.monotonic()
        items: list[ObjectT] = []
        token: str | None = None
        while True:
            page = await self._client.list_page(
                self._resource,
                self._namespace,
                label_selector=self._selector,
                limit=self._settings.page,
                continue_token=token,
                policy=ONCE,
            )
            self._heard_at = time.monotonic()
            items.extend(page.items or ())
            token = page.metadata.continue_token
            if not token:
                break
        self._client.stats.lists[self._resource.plural] += 1
        self._check_list(page.metadata.resource_version or "")
        for change in self._state.apply_list(items, page.metadata.resource_version or ""):
            self._on_change(change)
        self._on_listed(began)

    def _check_list(self, version: str) -> None:
        """Refuse what is no list of the present: believed, it would tell of deletions that never were."""
        if not version:
            raise self._no_list("Undecodable", "the list has no version: something else answered")
        if not self._state.is_before(version):
            self._staleness.reset()
            return
        if not self._staleness.is_over():
            raise self._no_list("Stale", f"the list is of version {version}, before what was told already")
        _logger.warning("the history of %s has gone back to version %s", self._resource.plural, version)
        self._staleness.reset()

    def _no_list(self, reason: str, message: str) -> ApiStatusError:
        return ApiStatusError(200, reason, message, verb="list", path=self._resource.plural)

    def _is_awaited(self) -> bool:
        """Whether the start waits for the first watch."""
        return self._standing is not None and not self._standing.done()

    def _refused_at_start(self, error: ApiError) -> bool:
        """Before the first watch stands, an error that will not pass is the start's to tell."""
        may_pass = error.transient or isinstance(error, GoneError)
        if not self._is_awaited() or may_pass or self._refusals.covers(error):
            return False
        assert self._standing is not None
        self._standing.set_exception(error)
        return True

    def _after_error(self, error: ApiError) -> float:
        """Decide what the next attempt begins with; return the least pause before it, in seconds."""
        if isinstance(error, UnauthorizedError | ForbiddenError):
            if not self._refused:
                _logger.warning(
                    "the watch of %s is refused and tried again, as an API server that has just started may"
                    " not have its roles yet: %s",
                    self._resource.plural,
                    error,
                )
            self._refused = True
        elif self._last_error is None and not isinstance(error, GoneError):
            _logger.warning("the watch of %s is interrupted: %s", self._resource.plural, error)
        self._last_error = error
        self._client.stats.restarted(self._resource.plural, _RELIST if _place_is_lost(error) else "error")
        if _place_is_lost(error):
            _logger.info("the watch of %s begins again with a list: %s", self._resource.plural, error)
            self._state.forget()
        return self._asked_pause(error)

    def _asked_pause(self, error: ApiError) -> float:
        """How long the server wants to be left alone, in seconds.

        In a 503 that is a guess, such as a load balancer's in its page for an outage.
        """
        overloaded = isinstance(error, TooManyRequestsError)
        longest = _LONGEST_RETRY_AFTER if overloaded else self._settings.pauses.longest
        return min(error.retry_after or 0.0, longest)


def _place_is_lost(error: ApiError) -> bool:
    """Whether watching on from the same version is pointless.

    410 says so. Any other refusal of a watch that stood before may be about its version as
    well, such as one newer than a restored etcd has, which the server answers with a time-out
    that it explains; a refusal of the identity or for load is not.
    """
    if isinstance(error, TooManyRequestsError) or not isinstance(error, ApiStatusError):
        return False
    if isinstance(error, ServerError):
        return "resource version" in error.message.lower()
    return error.code not in (401, 403)
