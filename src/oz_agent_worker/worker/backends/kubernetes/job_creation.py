"""Creates the Job of an execution once, however often it is asked to, or adopts the one that exists."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.common.aio import wait_for_event
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError

from .api import rest
from .api.client import KubernetesClient
from .api.errors import AlreadyExistsError, ApiError, ForbiddenError, NotFoundError, TooLargeError
from .api.rest import JOBS
from .api.retry import ONCE, GracePeriod, delays, is_about_the_worker, is_explained
from .manifest.job import JobPlan
from .objects import JobView

__all__ = [
    "CreatedJob",
    "JobLookup",
    "NoRoomError",
    "create_or_adopt",
    "is_full_quota",
    "is_temporary",
    "refusal",
]

_logger = logging.getLogger(__name__)

#: How often a creation may be refused for a Job that the next read does not find.
_MAX_CONFLICTS: Final = 3


class NoRoomError(LaunchError):
    """A quota of the namespace has no room for the task's Job or Secret. Nothing of the task is left."""


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A Job that exists in the cluster.

    ``since`` is when that was known, in seconds of the monotonic clock. ``adopted``: an earlier
    call or another worker created it.
    """

    job: JobView
    since: float
    adopted: bool


@dataclass(frozen=True, slots=True)
class JobLookup:
    """What the worker knows of Jobs without reading them.

    ``watched`` gives the Job of a name as the watch last reported it. ``objection`` says why this
    worker may not adopt a Job (``None``: it may), and raises ``ApiError`` where that cannot be
    known yet.
    """

    watched: Callable[[str], JobView | None]
    objection: Callable[[JobView], Awaitable[str | None]]


async def create_or_adopt(
    client: KubernetesClient, plan: JobPlan, lookup: JobLookup, cancelled: asyncio.Event | None = None
) -> CreatedJob:
    """Create the planned Job, and return when it is certain that it exists.

    One request in the usual case. Where a Job of the name exists already (the assignment was
    repeated, or the answer to a creation was lost), it is read, and adopted if its annotations name
    the same execution and its owner is this worker or gone.

    What fails and may pass is tried again for the budget of ``client.settings.create``, or until
    ``cancelled`` is set. Then, or after a refusal, nothing is created any more. If a request may have
    created the Job, reads decide: until one finds it, or finds none ``client.settings.in_doubt`` seconds
    after the last request that was lost. That takes as long as the API server is away: a task whose
    Job may run must not go back to the queue.

    Raises:
        LaunchError: this call has created nothing. It has an outcome where the API server refused
            the Job for good. It has none where the API server cannot be reached, refuses for now,
            does not authorize the worker, or is still deleting an earlier Job of the name; or where
            the task was cancelled.
        NoRoomError: a quota has no room for the Job.
        OwnedByAnotherWorkerError: the Job exists and belongs to another worker.
    """
    return await _Creation(client, plan, lookup, cancelled or asyncio.Event()).run()


class _Creation:
    """The state of one creation.

    ``in_doubt_until``: a request whose answer was lost may create the Job until then, in seconds of the
    monotonic clock. ``conflict``: the last request found a Job of the name. In either case only a read
    of the Job is certain. ``last``: why the last request failed; ``ended``: no other one follows.
    """

    def __init__(
        self, client: KubernetesClient, plan: JobPlan, lookup: JobLookup, cancelled: asyncio.Event
    ) -> None:
        self._client = client
        self._plan = plan
        self._request = rest.create(JOBS, plan.namespace, plan.job)
        self._lookup = lookup
        self._cancelled = cancelled
        self._watched_before = lookup.watched(plan.name)
        self._in_doubt_until: float | None = None
        self._conflict = False
        self._vanished = 0
        self._budget = GracePeriod(client.settings.create.budget)
        self._last: ApiError | None = None
        self._ended = False
        self._warned = False

    async def run(self) -> CreatedJob:
        """See ``create_or_adopt``."""
        for delay in delays(self._client.settings.create):
            pause, creating = delay, self._may_create
            try:
                created = await (self._attempt() if creating else self._settle())
            except ApiError as error:
                pause = max(delay, error.retry_after or 0.0)
                created = self._watched()
                if creating:
                    self._note_failure(error, pause)
                else:
                    _logger.debug("Job %s cannot be read: %s", self._plan.name, error)
            if created is not None:
                return created
            if self._may_create:
                await wait_for_event(self._cancelled, pause)
            elif not creating:
                await asyncio.sleep(pause)
        raise AssertionError("delays never end")

    @property
    def _may_create(self) -> bool:
        return not (self._ended or self._cancelled.is_set())

    async def _attempt(self) -> CreatedJob | None:
        """Send the request once; ``None``: the Job that was in the way is gone, so try again.

        Raises:
            ApiError: the Job was not created, or that is not known.
            LaunchError: another Job is in the way.
        """
        try:
            answer = await self._client.exchange(self._request, ONCE)
            job = rest.decode(self._request, answer.body, JOBS.decoder)
        except AlreadyExistsError:
            self._conflict = True
            found = await self._read()
            if found is not None:
                return await self._adopted(found)
            self._conflict = False
            self._vanished += 1
            if self._vanished == _MAX_CONFLICTS:
                text = f"the Job {self._plan.name} exists when it is created and does not when it is read"
                raise LaunchError(text) from None
            return None
        except ApiError as error:
            if error.ambiguous:
                self._in_doubt_until = time.monotonic() + self._client.settings.in_doubt
            raise
        return _exists(job, adopted=False)

    async def _settle(self) -> CreatedJob | None:
        """Read whether the Job exists after the last request for it; ``None``: not known yet.

        Raises:
            ApiError: it cannot be read.
            LaunchError: it does not exist, and no request can create it any more.
        """
        if self._in_doubt_until is not None or self._conflict:
            began = time.monotonic()
            found = await self._read()
            if found is not None:
                return await self._adopted(found)
            if self._in_doubt_until is not None and began < self._in_doubt_until:
                return None
        raise self._given_up()

    def _given_up(self) -> LaunchError:
        if self._cancelled.is_set():
            return LaunchError(f"the task was cancelled before its Job {self._plan.name} was created")
        if self._last is not None and not is_temporary(self._last):
            return refusal("Job", self._last)
        return LaunchError(f"the Job {self._plan.name} could not be created: {self._last}")

    async def _read(self) -> JobView | None:
        try:
            return await self._client.get_job(self._plan.namespace, self._plan.name)
        except NotFoundError:
            return None

    async def _adopted(self, found: JobView) -> CreatedJob:
        """Adopt the Job that was found, if it is this execution's and may be adopted."""
        name, key = self._plan.name, self._plan.key
        if found.metadata.key != key:
            message = f"a Job named {name} exists already and is not of execution {key}"
            raise LaunchError(message, failed(FailureReason.JOB_CREATE, message))
        if found.metadata.deletion_timestamp is not None:
            raise LaunchError(f"the Job {name} of an earlier attempt is still being deleted")
        if self._in_doubt_until is not None and self._is_own(found):
            return _exists(found, adopted=False)
        objection = await self._lookup.objection(found)
        if objection is not None:
            raise OwnedByAnotherWorkerError(
                f"the Job {name} of this execution exists already and {objection}"
            )
        _logger.info("Job %s exists already and is adopted", name)
        return _exists(found, adopted=True)

    def _is_own(self, job: JobView) -> bool:
        """Whether this process has created the Job for this execution."""
        annotations = job.metadata.annotations
        same = job.metadata.key == self._plan.key
        return same and annotations is not None and annotations.owner == self._plan.owner

    def _watched(self) -> CreatedJob | None:
        """The Job, if the watch knows that this creation has come about."""
        watched = self._lookup.watched(self._plan.name)
        if watched is not None and self._watched_before is None and self._is_own(watched):
            return _exists(watched, adopted=False)
        return None

    def _note_failure(self, error: ApiError, pause: float) -> None:
        """Decide whether the Job is tried again, after ``pause`` seconds.

        Even a refusal for good is only believed when no Job exists: an earlier request may be its
        cause, for example where its Job has used up the quota.
        """
        self._last = error
        self._ended = not is_temporary(error) or self._budget.is_over(ahead=pause)
        if is_temporary(error):
            self._warn(error)

    def _warn(self, error: ApiError) -> None:
        """Say once that the Job is late, in the API server's words."""
        if self._warned or not (error.ambiguous or is_explained(error)):
            return
        self._warned = True
        if error.ambiguous:
            text = "It is not known whether Job %s was created: asking until it is (%s)"
        else:
            text = "Job %s is not created yet, and is tried again: %s"
        _logger.warning(text, self._plan.name, error)


def is_temporary(error: ApiError) -> bool:
    """Whether another attempt may succeed, or an operator has to act and no task fails for it."""
    return error.transient or is_about_the_worker(error)


def is_full_quota(error: ApiError) -> bool:
    """Whether a ResourceQuota has no room for the object (API server, plugin ResourceQuota)."""
    return isinstance(error, ForbiddenError) and "exceeded quota" in error.message


def _exists(job: JobView, *, adopted: bool) -> CreatedJob:
    return CreatedJob(job, time.monotonic(), adopted)


def refusal(what: str, error: ApiError, hint: str = "") -> LaunchError:
    """The API server refused this task's object for good: the task fails, with the server's message."""
    said = getattr(error, "message", str(error))
    if is_full_quota(error):
        return NoRoomError(f"a quota has no room for the {what} ({said})")
    if isinstance(error, TooLargeError):
        message = f"The {what} is larger than the cluster stores: {said}{hint}"
        return LaunchError(message, failed(FailureReason.TASK_TOO_LARGE, message))
    message = f"The API server refused the {what}: {said}{hint}"
    return LaunchError(message, failed(FailureReason.JOB_CREATE, message))
