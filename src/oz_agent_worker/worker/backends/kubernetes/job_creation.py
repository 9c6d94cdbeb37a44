"""Creates the Job of an execution once, however often it is asked to, or adopts the one that exists.

Where the task's variables are in a Secret, the Secret is created after the Job that owns it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import failed
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError

from .api import rest
from .api.client import KubernetesClient
from .api.errors import AlreadyExistsError, ApiError, ForbiddenError, NotFoundError
from .api.rest import JOBS
from .api.retry import ONCE, GracePeriod, delays, is_about_the_worker, retry_until_decided
from .manifest.job import JobPlan
from .objects import JobView

__all__ = ["CreatedJob", "JobLookup", "create_environment_secret", "create_or_adopt"]

_logger = logging.getLogger(__name__)

#: How often a creation may be refused for a Job that the next read does not find.
_MAX_CONFLICTS: Final = 3


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


async def create_or_adopt(client: KubernetesClient, plan: JobPlan, lookup: JobLookup) -> CreatedJob:
    """Create the planned Job, and return when it is certain that it exists.

    One request in the usual case. Where a Job of the name exists already (the assignment was
    repeated, or the answer to a creation was lost), it is read, and adopted if its annotations name
    the same execution and its owner is this worker or gone. Once a request may have created the
    Job, this asks until the API server says whether it exists, however long that takes: a task
    whose Job may run must not go back to the queue.

    Raises:
        LaunchError: this call has created nothing. It has an outcome where the API server refused
            the Job, and none where the API server cannot be reached, does not authorize the worker,
            or is still deleting an earlier Job of the name.
        OwnedByAnotherWorkerError: the Job exists and belongs to another worker.
    """
    return await _Creation(client, plan, lookup).run()


class _Creation:
    """The state of one creation.

    ``unsure``: a request may have created the Job, and its answer was lost. ``conflict``: the last
    request found a Job of the name. In either case only a read of the Job is certain.
    """

    def __init__(self, client: KubernetesClient, plan: JobPlan, lookup: JobLookup) -> None:
        self._client = client
        self._plan = plan
        self._request = rest.create(JOBS, plan.namespace, plan.job)
        self._lookup = lookup
        self._watched_before = lookup.watched(plan.name)
        self._unsure = False
        self._conflict = False
        self._vanished = 0
        self._budget = GracePeriod(client.settings.create.budget)

    async def run(self) -> CreatedJob:
        """See ``create_or_adopt``."""
        for delay in delays(self._client.settings.create):
            pause = delay
            try:
                created = await self._attempt()
            except ApiError as error:
                pause = max(delay, error.retry_after or 0.0)
                created = await self._after_error(error, pause)
            if created is not None:
                return created
            await asyncio.sleep(pause)
        raise AssertionError("delays never end")

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
        return _exists(job, adopted=False)

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
        if self._unsure and self._is_own(found):
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

    async def _after_error(self, error: ApiError, pause: float) -> CreatedJob | None:
        """Act on a failed attempt; ``None``: try again after ``pause`` seconds.

        Raises:
            LaunchError: nothing was created, and another attempt would not help.
        """
        watched = self._lookup.watched(self._plan.name)
        if watched is not None and self._watched_before is None and self._is_own(watched):
            return _exists(watched, adopted=False)
        if not self._unsure and error.ambiguous:
            self._unsure = True
            _logger.warning("It is not known whether Job %s was created: asking until it is", self._plan.name)
        may_exist = self._unsure or self._conflict
        if error.transient or is_about_the_worker(error):
            if self._budget.is_over(ahead=pause) and not may_exist:
                raise LaunchError(f"the Job {self._plan.name} could not be created: {error}") from error
            return None
        if may_exist:
            # An earlier request may be why this one is refused: its Job has used up the quota, for example.
            try:
                found = await self._read()
                if found is not None:
                    return await self._adopted(found)
            except ApiError as unread:
                _logger.debug("Job %s cannot be read: %s", self._plan.name, unread)
                return None
        raise _refusal("Job", error) from error


def _exists(job: JobView, *, adopted: bool) -> CreatedJob:
    return CreatedJob(job, time.monotonic(), adopted)


def _refusal(what: str, error: ApiError, hint: str = "") -> LaunchError:
    """The API server refused this task's object: the task fails, with the server's own message."""
    message = f"The API server refused the {what}: {getattr(error, 'message', error)}{hint}"
    return LaunchError(message, failed(FailureReason.JOB_CREATE, message))


async def create_environment_secret(client: KubernetesClient, plan: JobPlan, created: CreatedJob) -> None:
    """Create the Secret that the Job's Pods read their variables from, where they do.

    An adopted Job names its own: the worker that created it may have died before it created the
    Secret. The Job's Pod waits for the Secret, so this tries for as long as the API server is away.

    Raises:
        LaunchError: the API server refused the Secret. The Job is deleted, unless it was adopted.
    """
    job = created.job.metadata
    name = job.annotations.environment_secret if job.annotations else None
    if name is None:
        return
    secret = plan.environment_secret(name, job.uid or "")
    patience = client.settings.create.budget
    try:
        await retry_until_decided(
            lambda: client.create_secret(plan.namespace, secret), f"Secret {name}", patience=patience
        )
    except ApiError as error:
        if created.adopted:
            # If the Secret is there, the Pod runs on; if it is not, the Pod's status will say so.
            _logger.warning("The Secret %s of an adopted Job cannot be created: %s", name, error)
            return
        await _delete_job(client, plan, job.uid)
        hint = ""
        if isinstance(error, ForbiddenError):
            hint = (
                ": backend.kubernetes.task_env_secret needs the permission to create secrets in namespace"
                f" {plan.namespace}, and room for one in its quota"
            )
        raise _refusal("Secret of the task's variables", error, hint) from error


async def _delete_job(client: KubernetesClient, plan: JobPlan, uid: str | None) -> None:
    """Delete a Job whose task is not started; its Pod cannot start without its Secret."""
    try:
        await retry_until_decided(
            lambda: client.delete_job(plan.namespace, plan.name, uid=uid),
            f"Deletion of Job {plan.name}",
            patience=client.settings.create.budget,
        )
    except ApiError as error:
        _logger.warning("Job %s remains although its task was not started: %s", plan.name, error)
