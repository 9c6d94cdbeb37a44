"""A Job is created once, whoever asks and however often: what is there already is adopted."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from oz_agent_worker.backends.base import LaunchError
from oz_agent_worker.core.outcome import FailureReason, failed
from oz_agent_worker.core.report import ExecutionKey

from .api_errors import AlreadyExistsError, ApiError, NotFoundError, UnauthorizedError
from .client import KubernetesClient
from .retry import RetryPolicy
from .views import JobView

__all__ = ["create_or_adopt"]

_logger = logging.getLogger(__name__)

#: For taking back a Job whose creation was never confirmed: the server was away a moment ago.
_TAKE_BACK = RetryPolicy(budget=5.0)

#: How often a Job that is in the way may turn out to be gone again before that is the server's problem.
_ATTEMPTS = 3


async def create_or_adopt(
    client: KubernetesClient,
    namespace: str,
    manifest: Mapping[str, Any],
    key: ExecutionKey,
    known: Callable[[str], JobView | None],
) -> tuple[JobView, float]:
    """Create the Job of an execution; return it, and when it stood (monotonic seconds).

    One request. Only where a Job of the name stands already (a repeated assignment, or an
    answer that was lost) is it read, and adopted if its annotations name the same execution.
    ``known`` looks a Job up in what the watch has told, which costs nothing.

    Raises:
        LaunchError: with an outcome where the API server refused this Job, and without one
            where it cannot be asked, may not be asked, or has the Job half deleted.
    """
    name = manifest["metadata"]["name"]
    before = known(name)
    try:
        for _ in range(_ATTEMPTS):
            try:
                return await client.create_job(namespace, manifest), time.monotonic()
            except AlreadyExistsError:
                found = await _read(client, namespace, name)
            if found is not None:
                _check_same(found, key, name)
                _logger.info("Job %s stands already and is adopted", name)
                return found, time.monotonic()
    except ApiError as error:
        if not error.transient:
            raise _refusal(error) from error
        found = known(name)
        if found is not None and found.metadata.key == key and before is None:
            return found, time.monotonic()
        if error.ambiguous and before is None:
            await _take_back(client, namespace, name)
        raise LaunchError(f"the Job {name} could not be created: {error}") from error
    raise LaunchError(f"the Job {name} exists when it is created and does not when it is read")


async def _read(client: KubernetesClient, namespace: str, name: str) -> JobView | None:
    try:
        return await client.get_job(namespace, name)
    except NotFoundError:
        return None


def _check_same(found: JobView, key: ExecutionKey, name: str) -> None:
    if found.metadata.key != key:
        message = f"a Job named {name} exists already and is not of execution {key}"
        raise LaunchError(message, failed(FailureReason.JOB_CREATE, message))
    if found.metadata.deletion_timestamp is not None:
        raise LaunchError(f"the Job {name} of an earlier attempt is still being deleted")


def _refusal(error: ApiError) -> LaunchError:
    """A refusal is about this Job, in the server's own words; but a refused identity is the worker's."""
    if isinstance(error, UnauthorizedError):
        return LaunchError(f"the API server does not accept the worker's credentials: {error}")
    words = getattr(error, "message", str(error))
    message = f"The API server refused the Job: {words}"
    return LaunchError(message, failed(FailureReason.JOB_CREATE, message))


async def _take_back(client: KubernetesClient, namespace: str, name: str) -> None:
    """Delete a Job that may have been created, lest it run while its task waits in the queue again.

    Best effort: a Job that stays is adopted when the execution is assigned again.
    """
    try:
        await client.delete_job(namespace, name, policy=_TAKE_BACK)
    except ApiError as error:
        _logger.warning("Job %s may stand although its creation was not confirmed: %s", name, error)
