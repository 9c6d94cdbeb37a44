"""The Job of a task as a dry run: is every field known, and would the cluster take the Job?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiStatusError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.manifest.field_paths import field_problems, in_config_terms
from oz_agent_worker.worker.backends.kubernetes.status.admission import explain_refusal
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding, explain_field_errors
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .probe_job import build_sample_job

__all__ = ["TemplateCheck", "check_template"]

#: A field that no Job has: a server that does not complain of it looks at no field at all.
_CANARY: Final = "ozFieldThatNoJobHas"
_UNCHECKED: Final = (
    "this API server does not check the fields of what it is sent (older than Kubernetes 1.25):"
    " a misspelt field of backend.kubernetes.pod_template is ignored, and nobody is told"
)


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """What the dry run showed.

    ``diagnosis`` says why no task would be taken; ``warnings`` are worth a look, those of the
    server among them. ``strict``: the server looked at every field.
    """

    diagnosis: Finding | None = None
    warnings: tuple[str, ...] = ()
    strict: bool = True


async def check_template(
    client: KubernetesClient, config: KubernetesConfig, *, worker_id: str, cleanup: bool, unique: str
) -> TemplateCheck:
    """Send the Job of a task, strict about its fields; nothing of it is kept.

    Two requests: one shows the fields, with one among them that must be found, so that the
    check cannot pass where nothing is checked. The other goes through validation and admission.

    Raises:
        ApiError: the API server cannot be asked.
    """
    try:
        job = build_sample_job(config, worker_id=worker_id, cleanup=cleanup, unique=unique)
    except AssignmentError as error:
        return TemplateCheck(
            Finding(f"no Job can be made of a task: {error}", mend="correct the config file")
        )
    strict, diagnosis = await _fields(client, config, job)
    if diagnosis is not None:
        return TemplateCheck(diagnosis)
    try:
        answer = await client.exchange(rest.create(JOBS, config.namespace, job, dry_run=True))
    except UnauthorizedError:
        raise
    except ApiStatusError as error:
        if error.transient:
            raise
        return TemplateCheck(_refused(error, job, config), strict=strict)
    told = tuple(in_config_terms(text, job, config) for text in answer.warnings)
    return TemplateCheck(None, told if strict else (_UNCHECKED, *told), strict)


async def _fields(
    client: KubernetesClient, config: KubernetesConfig, job: Mapping[str, Any]
) -> tuple[bool, Finding | None]:
    """Whether the server checks fields, and what it found."""
    marked = {**job, "spec": {**job["spec"], _CANARY: True}}
    try:
        await client.exchange(rest.create(JOBS, config.namespace, marked, dry_run=True))
    except (UnauthorizedError, ForbiddenError, NotFoundError):
        # Neither comes from the decoder; the second request tells.
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


def _refused(error: ApiStatusError, job: Mapping[str, Any], config: KubernetesConfig) -> Finding:
    if not isinstance(error, InvalidError):
        return explain_refusal(error.message, config)
    # "Job.batch "name" is invalid: path: what": the name is the sample's, and means nothing.
    words = error.message.partition(" is invalid: ")[2] or error.message
    return Finding(
        "the Job of a task is not valid",
        in_config_terms(words, job, config),
        "correct what the cluster names in the config file",
    )
