"""What the worker must be allowed to do in its namespace, asked one by one.

The API server is asked for its own judgement (SelfSubjectAccessReview). Where that is not
to be had, and where the answer is no, the thing itself is tried in a way that changes
nothing: a list of one item, a read or a deletion of a name that nobody has, a creation as
a dry run. Authorisation comes before existence, so that 404 means allowed.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiStatusError,
    ForbiddenError,
    UnauthorizedError,
)
from oz_agent_worker.worker.backends.kubernetes.api.rest import EVENTS, JOBS, PODS, SECRETS, Request, Resource
from oz_agent_worker.worker.backends.kubernetes.api.retry import REFUSAL_PATIENCE, GracePeriod
from oz_agent_worker.worker.config.schema import KubernetesConfig

__all__ = ["Grant", "Permission", "needed_permissions", "review", "role_rules", "summary"]

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_RESOURCES: Final[Mapping[str, Resource[Any]]] = {
    "jobs": JOBS,
    "pods": PODS,
    "events": EVENTS,
    "secrets": SECRETS,
}
#: Seconds until what is missing is asked for again.
_AGAIN: Final = 0.5
#: How long a watch that is only tried may stay open, in seconds.
_TRIED_WATCH: Final = 1


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one resource, as a Role has them; ``purpose`` is what it is for."""

    group: str
    resource: str
    verb: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.verb}"


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether a permission is given; ``words`` are the cluster's where it is not."""

    permission: Permission
    allowed: bool
    words: str = ""


_ALWAYS: Final = (
    Permission("batch", "jobs", "create", "run a task"),
    Permission("batch", "jobs", "get", "take over a Job that stands"),
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


def needed_permissions(config: KubernetesConfig) -> tuple[Permission, ...]:
    """All that the worker needs with this configuration; nothing of it is cluster-wide."""
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


async def review(
    client: KubernetesClient,
    namespace: str,
    permissions: Sequence[Permission],
    *,
    unique: str,
    patience: float = REFUSAL_PATIENCE,
) -> list[Grant]:
    """Find out what is allowed, in the order of ``permissions``, all at the same time.

    ``unique`` is a name that no object has. What is missing is asked for again for
    ``patience`` seconds: an API server that has just started may not know its roles yet.

    Raises:
        ApiError: the API server cannot be asked.
    """
    grace, found = GracePeriod(patience), dict[Permission, Grant]()
    missing: Sequence[Permission] = permissions
    while True:
        asking = (_granted(client, namespace, permission, unique) for permission in missing)
        found |= {grant.permission: grant for grant in await asyncio.gather(*asking)}
        missing = [permission for permission in permissions if not found[permission].allowed]
        if not missing or grace.is_over():
            return [found[permission] for permission in permissions]
        await asyncio.sleep(_AGAIN)


class _ReviewStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    """The part of authorization/v1, SelfSubjectAccessReview that is read."""

    status: _ReviewStatus = _ReviewStatus()


_REVIEW: Final = msgspec.json.Decoder(_Review)


async def _granted(client: KubernetesClient, namespace: str, permission: Permission, unique: str) -> Grant:
    if await _reviewed(client, namespace, permission):
        return Grant(permission, allowed=True)
    # A refusal is tried all the same: it names the user, and an authorizer may be wrong of itself.
    words = await _tried(client, namespace, permission, unique)
    return Grant(permission, allowed=words is None, words=words or "")


async def _reviewed(client: KubernetesClient, namespace: str, permission: Permission) -> bool:
    """The server's own judgement; false too where it gives none."""
    request = _review_request(namespace, permission)
    try:
        answer = await client.exchange(request)
        return rest.decode(request, answer.body, _REVIEW).status.allowed
    except UnauthorizedError:
        raise
    except ApiStatusError as error:
        if error.transient:
            raise
        return False


def _review_request(namespace: str, permission: Permission) -> Request:
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
    return Request("create", "selfsubjectaccessreviews", "POST", _REVIEWS, body=msgspec.json.encode(body))


async def _tried(client: KubernetesClient, namespace: str, permission: Permission, unique: str) -> str | None:
    """Try it; ``None`` where it is allowed, else the server's words."""
    try:
        await _attempt(client, namespace, permission, unique)
    except UnauthorizedError:
        raise
    except ForbiddenError as error:
        # Admission comes after authorisation: what it refuses was allowed.
        return error.message if "cannot " in error.message or permission.verb != "create" else None
    except ApiStatusError as error:
        if error.transient:
            raise
    return None


async def _attempt(client: KubernetesClient, namespace: str, permission: Permission, unique: str) -> None:
    name, _, subresource = permission.resource.partition("/")
    resource = _RESOURCES[name]
    match permission.verb:
        case "watch":
            watching = client.watch(
                resource,
                namespace,
                label_selector=f"oz-preflight={unique}",
                resource_version="0",
                timeout_seconds=_TRIED_WATCH,
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
