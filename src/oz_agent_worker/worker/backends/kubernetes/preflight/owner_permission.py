"""Whether the worker may see its siblings' Pods, where these are in another namespace than the tasks.

A Job names the worker's Pod that owns it. After a restart, or beside a second worker of the same
ID, only a look at that Pod tells whether the Job is to be taken over. Tasks run without it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.adoption.self_identity import own_namespace
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import SERVICE_ACCOUNT
from oz_agent_worker.worker.checks import CheckResult, ok, warn
from oz_agent_worker.worker.config.schema import KubernetesConfig

from .permissions import Permission, review, role_rules

__all__ = ["OWNER_SIGHT", "check_owner_sight", "owners_namespace"]

OWNER_SIGHT: Final = Permission("", "pods", "get", "see whether the worker that owns a Job is still there")


def owners_namespace(
    config: KubernetesConfig, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
) -> str | None:
    """The namespace of the worker's own Pod; ``None`` where it is the tasks', or none of this cluster.

    A kubeconfig that is configured may lead to another cluster than the worker's own.
    """
    if config.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" not in environ:
        return None
    namespace = own_namespace(environ, service_account)
    return namespace if namespace != config.namespace else None


async def check_owner_sight(client: KubernetesClient, namespace: str, *, unique: str) -> CheckResult:
    """Ask for the one permission in ``namespace``; ``unique`` is a name that no Pod has.

    It is asked for when others have been granted, so that a refusal is believed at once.

    Raises:
        ApiError: the API server cannot be asked.
    """
    (grant,) = await review(client, namespace, [OWNER_SIGHT], unique=unique, patience=0.0)
    if grant.allowed:
        return ok(f"to {OWNER_SIGHT.purpose}")
    return warn(
        f"after a restart, running tasks of an earlier worker are left alone until they end: {grant.words}",
        f"add a Role in namespace {namespace}, bound to the worker (the chart has both, with rbac.create):\n"
        + role_rules([OWNER_SIGHT]),
    )
