"""Creates the Secret of a task's variables, after the Job that owns it."""

import asyncio
import logging
from dataclasses import replace
from typing import Final

from oz_agent_worker.worker.backends.base import LaunchError

from .api.client import KubernetesClient
from .api.errors import ApiError, ForbiddenError
from .api.retry import RetryPolicy, is_explained, retry_until_decided
from .job_creation import CreatedJob, is_full_quota, refusal
from .manifest.job import JobPlan

__all__ = ["create_environment_secret"]

_logger = logging.getLogger(__name__)

#: The longest retry of one request, in seconds: between two of them a cancellation is noticed.
_LONGEST_RETRY: Final = 5.0


async def create_environment_secret(
    client: KubernetesClient, plan: JobPlan, created: CreatedJob, cancelled: asyncio.Event | None = None
) -> None:
    """Create the Secret that the Job's Pods read their variables from, where they do.

    An adopted Job names its own: the worker that created it may have died before it created the
    Secret. The Job's Pod waits for the Secret, so this tries for as long as the API server is away,
    and no longer than for the budget of a creation while the API server says why it refuses. It
    returns without a Secret when ``cancelled`` is set: the Job is to be deleted.

    Raises:
        LaunchError: the API server refused the Secret; without an outcome where that may pass. The
            Job is deleted, unless it was adopted.
        NoRoomError: a quota has no room for the Secret.
    """
    job = created.job.metadata
    name = job.annotations.environment_secret if job.annotations else None
    if name is None:
        return
    secret = plan.environment_secret(name, job.uid or "")
    policy = _one_retry(client.settings.create)
    try:
        await retry_until_decided(
            lambda: client.create_secret(plan.namespace, secret, policy),
            f"Creation of Secret {name}",
            patience=client.settings.create.budget,
            wanted=lambda: cancelled is None or not cancelled.is_set(),
            explained_is_final=True,
        )
    except ApiError as error:
        if created.adopted:
            # If the Secret is there, the Pod runs on; if it is not, the Pod's status will say so.
            _logger.warning("The Secret %s of an adopted Job cannot be created: %s", name, error)
            return
        await _delete_job(client, plan, job.uid)
        raise _explained(error, plan.namespace) from error


def _explained(error: ApiError, namespace: str) -> LaunchError:
    what = "Secret of the task's variables"
    if is_explained(error):
        return LaunchError(f"the {what} could not be created: {error}")
    hint = ""
    if isinstance(error, ForbiddenError) and not is_full_quota(error):
        hint = (
            ": backend.kubernetes.task_env_secret needs the permission to create secrets in namespace"
            f" {namespace}"
        )
    return refusal(what, error, hint)


async def _delete_job(client: KubernetesClient, plan: JobPlan, uid: str | None) -> None:
    """Delete a Job whose task is not started; its Pod cannot start without its Secret."""
    policy = _one_retry(client.settings.delete)
    try:
        await retry_until_decided(
            lambda: client.delete_job(plan.namespace, plan.name, uid=uid, policy=policy),
            f"Deletion of Job {plan.name}",
            patience=client.settings.create.budget,
            explained_is_final=True,
        )
    except ApiError as error:
        _logger.warning("Job %s remains although its task was not started: %s", plan.name, error)


def _one_retry(policy: RetryPolicy) -> RetryPolicy:
    return replace(policy, budget=min(policy.budget, _LONGEST_RETRY))
