"""A namespace a test, in which the user ``worker`` may do what the documentation grants, and no more."""

import secrets
from typing import Any, Final

from .errors import ApiError
from .rest import RestClient, wait_for

__all__ = ["WORKER_RULES", "create_namespace", "delete_namespace"]

WORKER_RULES: Final = (
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
)
"""The worker's documented permissions."""

ROLE: Final = "oz-agent-worker"
RBAC: Final = "rbac.authorization.k8s.io"


def create_namespace(client: RestClient, subject: dict[str, str] | None = None, prefix: str = "oz") -> str:
    """Create a namespace with a name of its own, with the worker's Role bound to ``subject``.

    Without a subject, the Role goes to a service account ``worker``. Returns when Pods
    can be created: their admission wants the service account ``default``, which a
    controller makes.
    """
    name = f"{prefix}-{secrets.token_hex(5)}"
    client.create("/api/v1/namespaces", {"metadata": {"name": name}})
    if subject is None:
        client.create(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "worker"}})
        subject = {"kind": "ServiceAccount", "name": "worker", "namespace": name}
    rbac = f"/apis/{RBAC}/v1/namespaces/{name}"
    client.create(f"{rbac}/roles", {"metadata": {"name": ROLE}, "rules": list(WORKER_RULES)})
    binding = {
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": ROLE},
        "subjects": [subject],
    }
    client.create(f"{rbac}/rolebindings", binding)
    default = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    # After an API server's restarts the watches of the controllers (client-go) pause for up to a minute.
    wait_for(f"service account default in {name}", lambda: _exists(client, default))
    return name


def delete_namespace(client: RestClient, name: str) -> None:
    """Ask for the deletion and return: the namespace controller does the rest by itself.

    Pods go without a grace period, because the kubelet that would end it may be gone.
    """
    try:
        client.delete(f"/api/v1/namespaces/{name}")
        client.delete(f"/api/v1/namespaces/{name}/pods", gracePeriodSeconds=0)
    except ApiError as error:
        if error.status != 404:
            raise


def worker_may_list_jobs(client: RestClient, namespace: str) -> bool:
    """Ask, as the worker itself, whether the authorizer has seen the RoleBinding yet."""
    attributes = {"namespace": namespace, "verb": "list", "group": "batch", "resource": "jobs"}
    review = {"spec": {"resourceAttributes": attributes}}
    answer: Any = client.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _exists(client: RestClient, path: str) -> bool:
    try:
        client.get(path)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True
