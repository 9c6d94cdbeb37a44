"""A Job is created once, whoever asks and however often: what is there already is adopted.

Where the task's variables are in a Secret, that follows the Job which owns it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.outcome import FailureReason, failed
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import LaunchError, OwnedByAnotherWorkerError

from .api import rest
from .api.client import KubernetesClient
from .api.errors import AlreadyExistsError, ApiError, ForbiddenError, NotFoundError
from .api.rest import JOBS
from .api.retry import ONCE, GracePeriod, delays, is_about_the_worker, retry_until_decided
from .manifest.env_secret import build_environment_secret
from .manifest.naming import ANNOTATION_OWNER
from .objects import JobView

__all__ = ["CreatedJob", "Lookup", "create_environment_secret", "create_or_adopt"]

_logger = logging.getLogger(__name__)

#: How often a Job that is in the way may turn out to be gone again before that is the server's problem.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A Job that stands.

    ``since`` is when, in monotonic seconds; ``adopted``: it was there already.
    """

    job: JobView
    since: float
    adopted: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of Jobs without reading them.

    ``told`` gives the Job of a name as the watch has told it. ``objection`` says why a Job may
    not be adopted by this worker (``None``: it may), and raises ``ApiError`` where that
    cannot be known for now.
    """

    told: Callable[[str], JobView | None]
    objection: Callable[[JobView], Awaitable[str | None]]


async def create_or_adopt(
    client: KubernetesClient,
    namespace: str,
    manifest: Mapping[str, Any],
    key: ExecutionKey,
    lookup: Lookup,
) -> CreatedJob:
    """Create the Job of an execution, and return when it is certain that it stands.

    One request. Only where a Job of the name stands already (a repeated assignment, or an
    answer that was lost) is it read, and adopted if its annotations name the same execution
    and its owner is this worker or gone. Once a request may have created the Job, this goes on
    until the API server says what became of it, however long it is away: a task whose Job may
    run must not go back to its queue.

    Raises:
        LaunchError: nothing of this call stands. With an outcome where the API server refused
            this Job; without one where it cannot be asked or may not be asked, or has the Job
            half deleted. ``OwnedByAnotherWorkerError``: the Job is another worker's.
    """
    return await _Creation(client, namespace, manifest, key, lookup).run()


class _Creation:
    """One Job on its way.

    ``unsure``: a request may have created it, and its answer is lost. ``met``: a Job of its
    name stood when it was to be created. With either, nothing is certain until it is read.
    """

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        manifest: Mapping[str, Any],
        key: ExecutionKey,
        lookup: Lookup,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._request = rest.create(JOBS, namespace, manifest)
        self._name: str = manifest["metadata"]["name"]
        self._owner = manifest["metadata"]["annotations"].get(ANNOTATION_OWNER)
        self._key = key
        self._lookup = lookup
        self._before = lookup.told(self._name)
        self._unsure = False
        self._met = False
        self._crossings = 0
        self._budget = GracePeriod(client.settings.create.budget)

    async def run(self) -> CreatedJob:
        """See ``create_or_adopt``."""
        for delay in delays(self._client.settings.create):
            pause = delay
            try:
                standing = await self._attempt()
            except ApiError as error:
                pause = max(delay, error.retry_after or 0.0)
                standing = await self._after(error, pause)
            if standing is not None:
                return standing
            await asyncio.sleep(pause)
        raise AssertionError("delays never end")

    async def _attempt(self) -> CreatedJob | None:
        """Ask once; ``None``: what was in the way is gone, so ask again.

        Raises:
            ApiError: the server did not create it, or it is not known.
            LaunchError: another Job is in the way.
        """
        try:
            answer = await self._client.exchange(self._request, ONCE)
            job = rest.decode(self._request, answer.body, JOBS.decoder)
        except AlreadyExistsError:
            self._met = True
            found = await self._read()
            if found is not None:
                return await self._adopted(found)
            self._met = False
            self._crossings += 1
            if self._crossings == _ATTEMPTS:
                text = f"the Job {self._name} exists when it is created and does not when it is read"
                raise LaunchError(text) from None
            return None
        return CreatedJob(job, time.monotonic(), adopted=False)

    async def _read(self) -> JobView | None:
        try:
            return await self._client.get_job(self._namespace, self._name)
        except NotFoundError:
            return None

    async def _adopted(self, found: JobView) -> CreatedJob:
        """Take the Job that stands for the execution's, if it is and may be."""
        self._check_same(found)
        if self._unsure and self._is_own(found):
            return CreatedJob(found, time.monotonic(), adopted=False)
        objection = await self._lookup.objection(found)
        if objection is not None:
            raise OwnedByAnotherWorkerError(
                f"the Job {self._name} of this execution stands already and {objection}"
            )
        _logger.info("Job %s stands already and is adopted", self._name)
        return CreatedJob(found, time.monotonic(), adopted=True)

    def _check_same(self, found: JobView) -> None:
        if found.metadata.key != self._key:
            message = f"a Job named {self._name} exists already and is not of execution {self._key}"
            raise LaunchError(message, failed(FailureReason.JOB_CREATE, message))
        if found.metadata.deletion_timestamp is not None:
            raise LaunchError(f"the Job {self._name} of an earlier attempt is still being deleted")

    def _is_own(self, job: JobView) -> bool:
        """Whether this process has created it."""
        annotations = job.metadata.annotations
        return job.metadata.key == self._key and annotations is not None and annotations.owner == self._owner

    async def _after(self, error: ApiError, pause: float) -> CreatedJob | None:
        """Judge a failed attempt; ``None``: ask again.

        Raises:
            LaunchError: nothing stands, and asking again is pointless.
        """
        told = self._lookup.told(self._name)
        if told is not None and self._before is None and self._is_own(told):
            return CreatedJob(told, time.monotonic(), adopted=False)
        if not self._unsure and error.ambiguous:
            self._unsure = True
            _logger.warning("It is not known whether Job %s was created: asking until it is", self._name)
        if error.transient or is_about_the_worker(error):
            self._check_patience(error, pause)
            return None
        return await self._after_refusal(error)

    async def _after_refusal(self, error: ApiError) -> CreatedJob | None:
        """A refusal may come of what an earlier request created, such as of the quota that it used up."""
        if not (self._unsure or self._met):
            raise _refusal("Job", error) from error
        try:
            found = await self._read()
            if found is not None:
                return await self._adopted(found)
        except ApiError as unread:
            _logger.debug("Job %s cannot be looked for: %s", self._name, unread)
            return None
        raise _refusal("Job", error) from error

    def _check_patience(self, error: ApiError, pause: float) -> None:
        """What nobody has received may go back to its queue, once the client's patience is used up."""
        if self._budget.is_over(ahead=pause) and not (self._unsure or self._met):
            raise LaunchError(f"the Job {self._name} could not be created: {error}") from error


def _refusal(what: str, error: ApiError, hint: str = "") -> LaunchError:
    """A refusal is about this task, in the server's own words."""
    words = getattr(error, "message", str(error))
    message = f"The API server refused the {what}: {words}{hint}"
    return LaunchError(message, failed(FailureReason.JOB_CREATE, message))


async def create_environment_secret(
    client: KubernetesClient,
    manifest: Mapping[str, Any],
    standing: CreatedJob,
    variables: Mapping[str, Secret],
) -> None:
    """Create the Secret that the Job's Pods read their variables from, where they do.

    An adopted Job names its own: its worker may have died before the Secret was there. The
    Job stands, and its Pod waits, so that this tries for as long as the API server is away.

    Raises:
        LaunchError: the API server refused the Secret, and the Job is deleted, unless it was
            adopted.
    """
    job, namespace = standing.job.metadata, manifest["metadata"]["namespace"]
    name = job.annotations.environment_secret if job.annotations else None
    if name is None:
        return
    secret = build_environment_secret(variables, manifest, name=name, uid=job.uid or "")
    patience = client.settings.create.budget
    try:
        await retry_until_decided(
            lambda: client.create_secret(namespace, secret), f"Secret {name}", patience=patience
        )
    except ApiError as error:
        if standing.adopted:
            # Where it has its Secret it runs on; where not, its Pod will say so.
            _logger.warning("the Secret %s of an adopted Job cannot be created: %s", name, error)
            return
        await _take_back(client, namespace, job.name, job.uid)
        raise _refusal("Secret of the task's variables", error, _secret_hint(error, namespace)) from error


async def _take_back(client: KubernetesClient, namespace: str, name: str, uid: str | None) -> None:
    """Delete a Job whose task ends before it began; its Pod cannot start without its Secret."""
    try:
        patience = client.settings.create.budget
        await retry_until_decided(
            lambda: client.delete_job(namespace, name, uid=uid), f"Deletion of Job {name}", patience=patience
        )
    except ApiError as error:
        _logger.warning("Job %s stands although its task was not started: %s", name, error)


def _secret_hint(error: ApiError, namespace: str) -> str:
    if not isinstance(error, ForbiddenError):
        return ""
    return (
        ": backend.kubernetes.task_env_secret needs the permission to create secrets in namespace"
        f" {namespace}, and room for one in its quota"
    )
