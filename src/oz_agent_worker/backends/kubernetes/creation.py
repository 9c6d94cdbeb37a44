"""A Job is created once, whoever asks and however often: what is there already is adopted.

Where the task's variables are in a Secret, that follows the Job which owns it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oz_agent_worker.backends.base import LaunchError
from oz_agent_worker.backends.kubernetes.api.api_errors import (
    AlreadyExistsError,
    ApiError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)
from oz_agent_worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.backends.kubernetes.manifests.envsecret import build_environment_secret
from oz_agent_worker.core.outcome import FailureReason, failed
from oz_agent_worker.core.report import ExecutionKey
from oz_agent_worker.core.secret import Secret

from .views import JobView

__all__ = ["Standing", "create_environment_secret", "create_or_adopt"]

_logger = logging.getLogger(__name__)

#: For taking back a Job whose creation was never confirmed: the server was away a moment ago.
_TAKE_BACK = RetryPolicy(budget=5.0)

#: How often a Job that is in the way may turn out to be gone again before that is the server's problem.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """A Job that stands.

    ``since`` is when, in monotonic seconds; ``adopted``: it was there already.
    """

    job: JobView
    since: float
    adopted: bool


async def create_or_adopt(
    client: KubernetesClient,
    namespace: str,
    manifest: Mapping[str, Any],
    key: ExecutionKey,
    known: Callable[[str], JobView | None],
) -> Standing:
    """Create the Job of an execution.

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
                job = await client.create_job(namespace, manifest)
                return Standing(job, time.monotonic(), adopted=False)
            except AlreadyExistsError:
                found = await _read(client, namespace, name)
            if found is not None:
                _check_same(found, key, name)
                _logger.info("Job %s stands already and is adopted", name)
                return Standing(found, time.monotonic(), adopted=True)
    except ApiError as error:
        if not error.transient:
            raise _refusal("Job", error) from error
        found = known(name)
        if found is not None and found.metadata.key == key and before is None:
            return Standing(found, time.monotonic(), adopted=False)
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


def _refusal(what: str, error: ApiError, hint: str = "") -> LaunchError:
    """A refusal is about this task, in the server's own words; but a refused identity is the worker's."""
    if isinstance(error, UnauthorizedError):
        return LaunchError(f"the API server does not accept the worker's credentials: {error}")
    words = getattr(error, "message", str(error))
    message = f"The API server refused the {what}: {words}{hint}"
    return LaunchError(message, failed(FailureReason.JOB_CREATE, message))


async def _take_back(client: KubernetesClient, namespace: str, name: str, uid: str | None = None) -> None:
    """Delete a Job that may have been created, lest it run while its task waits in the queue again.

    Best effort: a Job that stays is adopted when the execution is assigned again.
    """
    try:
        await client.delete_job(namespace, name, uid=uid, policy=_TAKE_BACK)
    except ApiError as error:
        _logger.warning("Job %s may stand although its task was not started: %s", name, error)


async def create_environment_secret(
    client: KubernetesClient, manifest: Mapping[str, Any], standing: Standing, variables: Mapping[str, Secret]
) -> None:
    """Create the Secret that the Job's Pods read their variables from, where they do.

    An adopted Job names its own: its worker may have died before the Secret was there.

    Raises:
        LaunchError: there is no Secret, and the Job is deleted, unless it was adopted; with an
            outcome where the API server refused the Secret.
    """
    job, namespace = standing.job.metadata, manifest["metadata"]["namespace"]
    name = job.annotations.environment_secret if job.annotations else None
    if name is None:
        return
    secret = build_environment_secret(variables, manifest, name=name, uid=job.uid or "")
    try:
        await client.create_secret(namespace, secret)
    except ApiError as error:
        if standing.adopted and not error.transient:
            # Where it has its Secret it runs on; where not, its Pod will say so.
            _logger.warning("the Secret %s of an adopted Job cannot be created: %s", name, error)
            return
        if not standing.adopted:
            await _take_back(client, namespace, job.name, job.uid)
        if error.transient:
            raise LaunchError(f"the Secret {name} could not be created: {error}") from error
        raise _refusal("Secret of the task's variables", error, _secret_hint(error, namespace)) from error


def _secret_hint(error: ApiError, namespace: str) -> str:
    if not isinstance(error, ForbiddenError):
        return ""
    return (
        ": backend.kubernetes.task_env_secret needs the permission to create secrets in namespace"
        f" {namespace}, and room for one in its quota"
    )
