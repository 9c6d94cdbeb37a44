"""What operators do to the namespaces in which workers are then to run tasks."""

from collections.abc import Mapping
from typing import Any

from tests.cluster.api_tier import ApiTier
from tests.cluster.errors import ApiError
from tests.cluster.namespaces import RBAC, WORKER_RULES
from tests.cluster.rest import wait_for

__all__ = ["allow", "enforce_pod_security", "jobs_in", "limit", "may", "set_quota"]

ROLE = "oz-agent-worker"


def jobs_in(tier: ApiTier, namespace: str) -> list[str]:
    """The names of the existing Jobs."""
    listed: Any = tier.client().get(f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return [item["metadata"]["name"] for item in listed["items"]]


def allow(tier: ApiTier, namespace: str, *, but: tuple[str, str] | None = None) -> None:
    """Give the worker its documented permissions, ``but`` for one: (resource, verb)."""
    rules: list[dict[str, Any]] = [{**rule} for rule in WORKER_RULES]
    for rule in rules:
        if but is not None and rule["resources"] == [but[0]]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != but[1]]
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}/roles/{ROLE}"
    role = {"metadata": {"name": ROLE}, "rules": [rule for rule in rules if rule["verbs"]]}
    tier.client().request("PUT", path, role)
    if but is not None:
        wait_for(f"no {but}", lambda: not may(tier, namespace, *but))
    else:
        wait_for("all permissions", lambda: may(tier, namespace, "events", "list"))


def may(tier: ApiTier, namespace: str, resource: str, verb: str) -> bool:
    """Ask the API server, as the worker itself, whether it may."""
    name, _, subresource = resource.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": "batch" if name == "jobs" else "",
        "resource": name,
        "subresource": subresource,
    }
    review = {"spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return bool(tier.client("worker").create(path, review)["status"]["allowed"])


def enforce_pod_security(tier: ApiTier, namespace: str, level: str) -> None:
    """Enforce a Pod Security level, and wait until admission knows of it."""
    client = tier.client()
    found: Any = client.get(f"/api/v1/namespaces/{namespace}")
    found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level
    client.request("PUT", f"/api/v1/namespaces/{namespace}", found)
    pod = {
        "metadata": {"name": "probe"},
        "spec": {"hostNetwork": True, "containers": [{"name": "c", "image": "i"}]},
    }

    def refused() -> bool:
        try:
            client.create(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
        except ApiError as error:
            return "violates PodSecurity" in str(error)
        return False

    wait_for(f"Pod Security {level}", refused)


def set_quota(tier: ApiTier, namespace: str, name: str, hard: Mapping[str, str]) -> None:
    """Create or change a ResourceQuota, and wait until it is in force."""
    client, path = tier.client(), f"/api/v1/namespaces/{namespace}/resourcequotas"
    body = {"metadata": {"name": name}, "spec": {"hard": dict(hard)}}
    listed: Any = client.get(path)
    if any(item["metadata"]["name"] == name for item in listed["items"]):
        client.request("PUT", f"{path}/{name}", body)
    else:
        client.create(path, body)
    wait_for("the quota", lambda: client.get(f"{path}/{name}")["status"].get("hard") == dict(hard))


def limit(tier: ApiTier, namespace: str, name: str, most: Mapping[str, str]) -> None:
    """Create a LimitRange for containers."""
    limits = [{"type": "Container", "max": dict(most)}]
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    tier.client().create(path, {"metadata": {"name": name}, "spec": {"limits": limits}})
