"""Where the API server keeps objects of the charts."""

from typing import Any, Final

__all__ = ["collection", "strictly"]

_PLURALS: Final = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "Ingress": "ingresses",
    "NetworkPolicy": "networkpolicies",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}


def collection(found: dict[str, Any]) -> str:
    """Return the path of the collection that an object belongs to."""
    version, namespace = found["apiVersion"], found["metadata"]["namespace"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{base}/namespaces/{namespace}/{_PLURALS[found['kind']]}"


def strictly(path: str) -> str:
    """Return the path of a dry run in which an unknown or a doubled field is an error."""
    return f"{path}?dryRun=All&fieldValidation=Strict"
