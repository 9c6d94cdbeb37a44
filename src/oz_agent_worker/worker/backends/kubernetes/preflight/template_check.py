"""Sends the Job of a task as a dry run: is every field known, and would the cluster take the Job?"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.api.retry import ONCE, is_about_the_worker
from oz_agent_worker.worker.backends.kubernetes.manifest.field_paths import field_problems, in_config_terms
from oz_agent_worker.worker.backends.kubernetes.status.admission import explain_refusal
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding, explain_field_errors
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .probe_job import build_sample_job

__all__ = ["TemplateResult", "check_template", "creation_obstacle"]

#: A field that no Job has: a server that accepts it checks no field at all.
_CANARY: Final = "ozFieldThatNoJobHas"
_UNCHECKED: Final = (
    "this API server does not check the fields of what it is sent (older than Kubernetes 1.25):"
    " a misspelt field of backend.kubernetes.pod_template is ignored without a warning"
)

_NO_TTL: Final = (
    "with backend.kubernetes.ttl_seconds_after_finished: 0 the cluster removes Jobs and their logs as soon as"
    " they end, so that output which was not read by then is lost: leave some minutes"
)


@dataclass(frozen=True, slots=True)
class TemplateResult:
    """What the dry run showed.

    ``finding`` says why no task would be taken; ``warnings`` are worth a look, those of the
    server included.
    """

    finding: Finding | None = None
    warnings: tuple[str, ...] = ()


async def check_template(
    client: KubernetesClient, config: KubernetesConfig, *, worker_id: str, cleanup: bool, unique: str
) -> TemplateResult:
    """Send the Job of a task as a dry run with strict field validation.

    Two requests. The first has one unknown field added that the server must find, so that the check
    cannot pass where nothing is checked. The second goes through validation and admission.

    Raises:
        ApiError: the API server cannot be asked.
    """
    try:
        job = build_sample_job(config, worker_id=worker_id, cleanup=cleanup, unique=unique)
    except AssignmentError as error:
        return TemplateResult(
            Finding(f"no Job can be made of a task: {error}", advice="correct the config file")
        )
    strict, finding = await _check_fields(client, config, job)
    if finding is not None:
        return TemplateResult(finding)
    try:
        answer = await client.exchange(rest.create(JOBS, config.namespace, job, dry_run=True))
    except ApiStatusError as error:
        if error.transient or isinstance(error, UnauthorizedError):
            raise
        return TemplateResult(_explain_rejection(error, job, config))
    own = [] if strict else [_UNCHECKED]
    if job["spec"].get("ttlSecondsAfterFinished") == 0:
        own.append(_NO_TTL)
    return TemplateResult(None, (*own, *(in_config_terms(text, job, config) for text in answer.warnings)))


async def creation_obstacle(client: KubernetesClient, config: KubernetesConfig) -> str | None:
    """Say why the cluster would create no Job of a task at present, in its own words; from one dry run.

    ``None`` where it would, or where that cannot be asked, such as by a reader who may not create Jobs.
    """
    try:
        job = build_sample_job(config, worker_id="explain", cleanup=True, unique=secrets.token_hex(4))
        await client.exchange(rest.create(JOBS, config.namespace, job, dry_run=True), ONCE)
    except ApiStatusError as error:
        unasked = is_about_the_worker(error) or "does not support dry run" in error.message
        return None if unasked else error.message
    except (ApiError, AssignmentError):
        pass
    return None


async def _check_fields(
    client: KubernetesClient, config: KubernetesConfig, job: Mapping[str, Any]
) -> tuple[bool, Finding | None]:
    """Return whether the server checks fields, and what it found."""
    marked = {**job, "spec": {**job["spec"], _CANARY: True}}
    try:
        await client.exchange(rest.create(JOBS, config.namespace, marked, dry_run=True))
    except (UnauthorizedError, ForbiddenError, NotFoundError):
        # These do not come from the decoder; the second request meets them again.
        return True, None
    except ApiStatusError as error:
        if error.transient:
            raise
        found = [p for p in field_problems(error.message, job, config) if _CANARY not in p]
        if found:
            return True, explain_field_errors(
                found, error.message.replace(f', unknown field "spec.{_CANARY}"', "")
            )
        return _CANARY in error.message, None
    return False, None


def _explain_rejection(error: ApiStatusError, job: Mapping[str, Any], config: KubernetesConfig) -> Finding:
    if not isinstance(error, InvalidError):
        return explain_refusal(error.message, config)
    # "Job.batch "name" is invalid: path: what": the sample's name means nothing to the reader.
    message = error.message.partition(" is invalid: ")[2] or error.message
    return Finding(
        "the Job of a task is not valid",
        in_config_terms(message, job, config),
        "correct what the cluster names in the config file",
    )
