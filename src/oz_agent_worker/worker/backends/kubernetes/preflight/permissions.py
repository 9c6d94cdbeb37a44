"""What the worker must be allowed to do, and whether it is.

This is the one list of the worker's permissions: tests compare the chart's Role, its notes and
the documents with it.

The API server itself decides (authorization/v1, SelfSubjectAccessReview). Where it
gives none or says no, the request itself is tried in a way that changes nothing: a list of one
item, a read or a deletion of a name that no object has, a creation as a dry run. The API server
checks authorization before existence, so 404 means allowed.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import own_namespace
from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import SERVICE_ACCOUNT, Credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    ApiStatusError,
    ForbiddenError,
    UnauthorizedError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import EVENTS, JOBS, PODS, SECRETS, Request, Resource
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, GracePeriod
from oz_agent_worker.worker.backends.kubernetes.status.finding import (
    Finding,
    explain_api_error,
    explain_missing_permissions,
)
from oz_agent_worker.worker.config.schema import KubernetesConfig

__all__ = [
    "INSPECTION",
    "OWNER_PERMISSION",
    "Permission",
    "explain_error",
    "explain_refusals",
    "needed_permissions",
    "owner_namespace",
    "refused_permissions",
    "role_rules",
    "summary",
]

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_RESOURCES: Final[Mapping[str, Resource[Any]]] = {
    "jobs": JOBS,
    "pods": PODS,
    "events": EVENTS,
    "secrets": SECRETS,
}
#: Seconds between two tries of a permission that is missing.
_RETRY_AFTER: Final = 0.5
#: How long a watch that is only tried may stay open, in seconds.
_WATCH_TIMEOUT: Final = 1
#: Up to this many missing permissions are named one by one, each with its purpose.
_FEW: Final = 3


class _ReviewStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    """The part of authorization/v1, SelfSubjectAccessReview that is read."""

    status: _ReviewStatus = _ReviewStatus()


_REVIEW: Final = msgspec.json.Decoder(_Review)


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one resource, as a Role has them; ``purpose`` is what it is for."""

    group: str
    resource: str
    verb: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.verb}"


_ALWAYS: Final = (
    Permission("batch", "jobs", "create", "run a task"),
    Permission("batch", "jobs", "get", "adopt a Job that exists already"),
    Permission("batch", "jobs", "list", "follow the tasks"),
    Permission("batch", "jobs", "watch", "follow the tasks"),
    Permission("batch", "jobs", "delete", "cancel a task, and clean up"),
    Permission("", "pods", "get", "explain a task"),
    Permission("", "pods", "list", "follow the tasks"),
    Permission("", "pods", "watch", "follow the tasks"),
    Permission("", "pods/log", "get", "read a task's output"),
    Permission("", "events", "list", "say why a task does not start"),
)
_SECRET: Final = Permission("", "secrets", "create", "keep a task's variables (task_env_secret)")
#: Needed in the namespace of the worker's own Pod. A Job names the Pod of the worker that owns it;
#: only that Pod's status shows whether another worker may adopt the Job. Tasks run without it.
OWNER_PERMISSION: Final = Permission(
    "", "pods", "get", "see whether the worker that owns a Job is still there"
)
#: What the commands that look into tasks need of a person's account.
INSPECTION: Final = tuple(
    permission
    for permission in _ALWAYS
    if str(permission) in {"jobs: list", "jobs: get", "pods: list", "pods/log: get", "events: list"}
)


def needed_permissions(config: KubernetesConfig) -> tuple[Permission, ...]:
    """Return what the worker needs in the tasks' namespace; nothing of it is cluster-wide."""
    return (*_ALWAYS, _SECRET) if config.task_env_secret else _ALWAYS


def summary(permissions: Iterable[Permission]) -> str:
    """Write permissions in one line: ``jobs: create, get; events: list``."""
    return "; ".join(
        f"{resource}: {', '.join(verbs)}" for (_, resource), verbs in _grouped(permissions).items()
    )


def role_rules(permissions: Iterable[Permission]) -> str:
    """Write permissions as rules of a Role (rbac/v1, PolicyRule), a line each."""
    return "\n".join(
        f'- {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{", ".join(verbs)}]}}'
        for (group, resource), verbs in _grouped(permissions).items()
    )


def _grouped(permissions: Iterable[Permission]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for permission in permissions:
        found.setdefault((permission.group, permission.resource), []).append(permission.verb)
    return found


def owner_namespace(
    config: KubernetesConfig, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
) -> str | None:
    """Return the namespace of the worker's own Pod; ``None`` if it is the tasks' or not of this cluster.

    A kubeconfig that is configured may lead to another cluster than the worker's own.
    """
    if config.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" not in environ:
        return None
    namespace = own_namespace(environ, service_account)
    return namespace if namespace != config.namespace else None


def explain_error(error: ApiError, credentials: Credentials, config: KubernetesConfig) -> Finding:
    """Explain why the API server cannot be asked, with the permissions that this configuration needs."""
    return explain_api_error(
        error,
        server=credentials.server,
        description=credentials.description,
        namespace=config.namespace,
        permissions=summary(needed_permissions(config)),
    )


def explain_refusals(refused: Mapping[Permission, str], description: str, namespace: str) -> Finding:
    """Explain missing permissions with the message of the first refusal.

    ``description`` names the credentials.
    """
    few = len(refused) <= _FEW
    named = "; ".join(f"{p} (to {p.purpose})" for p in refused) if few else summary(refused)
    quote = next(filter(None, refused.values()), "")
    return explain_missing_permissions(
        named, role_rules(refused), quote, description=description, namespace=namespace
    )


async def refused_permissions(
    client: KubernetesClient,
    namespace: str,
    permissions: Iterable[Permission],
    *,
    unique: str,
    patience: float = REFUSAL_PATIENCE,
) -> dict[Permission, str]:
    """Find out which permissions are missing, with the cluster's message on each; all at the same time.

    ``unique`` is a name that no object has. What is missing is asked for again for
    ``patience`` seconds: an API server that has just started may not know its roles yet.

    Raises:
        ApiError: the API server cannot be asked.
    """
    grace = GracePeriod(patience)
    refused = dict.fromkeys(permissions, "")
    while True:
        answers = await asyncio.gather(*(_refusal(client, namespace, p, unique) for p in refused))
        refused = {p: message for p, message in zip(refused, answers, strict=True) if message is not None}
        if not refused or grace.is_over():
            return refused
        await asyncio.sleep(_RETRY_AFTER)


async def _refusal(
    client: KubernetesClient, namespace: str, permission: Permission, unique: str
) -> str | None:
    """Return the cluster's message on a missing permission; ``None`` if it is granted."""
    try:
        if await _review(client, namespace, permission):
            return None
    except ApiStatusError as error:
        if error.transient or isinstance(error, UnauthorizedError):
            raise
    # Try it although the review says no: the refusal names the user, and an authorizer may misjudge itself.
    try:
        await _try(client, namespace, permission, unique)
    except ForbiddenError as error:
        # Admission comes after authorization: a request that admission refuses was allowed.
        return error.message if "cannot " in error.message or permission.verb != "create" else None
    except ApiStatusError as error:
        if error.transient or isinstance(error, UnauthorizedError):
            raise
    return None


async def _review(client: KubernetesClient, namespace: str, permission: Permission) -> bool:
    """Return the server's own decision (authorization/v1, SelfSubjectAccessReview)."""
    resource, _, subresource = permission.resource.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": permission.verb,
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    request = Request("create", "selfsubjectaccessreviews", "POST", _REVIEWS, body=msgspec.json.encode(body))
    answer = await client.exchange(request)
    return rest.decode(request, answer.body, _REVIEW).status.allowed


async def _try(client: KubernetesClient, namespace: str, permission: Permission, unique: str) -> None:
    """Send the request itself, or one like it that changes nothing."""
    name, _, subresource = permission.resource.partition("/")
    resource = _RESOURCES[name]
    match permission.verb:
        case "watch":
            watching = client.watch(
                resource,
                namespace,
                label_selector=f"oz-preflight={unique}",
                resource_version="0",
                timeout_seconds=_WATCH_TIMEOUT,
                silence=10.0,
            )
            async with watching:
                return
        case "list":
            await client.exchange(rest.list_page(resource, namespace, limit=1))
        case "get" if subresource:
            await client.exchange(rest.read_log(namespace, unique, "task"))
        case "get":
            await client.exchange(rest.get(resource, namespace, unique))
        case "delete":
            await client.exchange(
                rest.delete(resource, namespace, unique, uid=None, propagation="Background")
            )
        case _:
            body = {"metadata": {"name": unique}}
            await client.exchange(rest.create(resource, namespace, body, dry_run=True))
