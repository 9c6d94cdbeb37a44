"""A Helm with a cluster, and what the objects of a chart are asked for there."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helmcli import Helm
from tests.chart.provisioned import helm_in
from tests.cluster.apitier import ApiTier
from tests.cluster.errors import ApiError
from tests.cluster.rest import RestClient, wait_for
from tests.conftest import Cluster

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture
def admin(cluster: Cluster) -> RestClient:
    """A client with all rights."""
    return cluster.client()


@pytest.fixture
def helm(cluster: Cluster, tmp_path: Path, namespace: str) -> Helm:
    """A Helm whose context is the test's namespace."""
    return helm_in(tmp_path / "helm", cluster.kubeconfig("admin", namespace))


@pytest.fixture
def tasks(cluster: Cluster) -> Iterator[str]:
    """A second namespace, for tasks."""
    name = cluster.create_namespace()
    yield name
    with suppress(OSError, ApiError):
        cluster.delete_namespace(name)


@pytest.fixture
def bare(cluster: Cluster, admin: RestClient) -> Iterator[str]:
    """A namespace without anything in it, as ``helm install --create-namespace`` makes one."""
    name = f"oz-{secrets.token_hex(5)}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    with suppress(OSError, ApiError):
        cluster.delete_namespace(name)


@pytest.fixture
def restricted(cluster: Cluster, admin: RestClient) -> Iterator[str]:
    """A namespace that enforces the Pod Security level ``restricted``."""
    name = cluster.create_namespace()
    found = admin.get(f"/api/v1/namespaces/{name}")
    found["metadata"]["labels"] |= RESTRICTED
    admin.request("PUT", f"/api/v1/namespaces/{name}", found)
    yield name
    with suppress(OSError, ApiError):
        cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def pod_monitors(api_tier: ApiTier) -> None:
    """The resource PodMonitor, as far as the chart uses it (Prometheus Operator, API reference).

    Only the project's own cluster gets it: a definition is the whole cluster's.
    """
    text: dict[str, Any] = {"type": "string"}
    duration = {**text, "pattern": "^(0|(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"}
    endpoint = {
        "type": "object",
        "properties": {"port": text, "path": text, "interval": duration, "scrapeTimeout": duration},
    }
    labels = {"type": "object", "additionalProperties": text}
    spec = {
        "type": "object",
        "required": ["podMetricsEndpoints", "selector"],
        "properties": {
            "selector": {"type": "object", "properties": {"matchLabels": labels}},
            "podMetricsEndpoints": {"type": "array", "items": endpoint},
        },
    }
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    group, kind = "monitoring.coreos.com", "PodMonitor"
    names = {"kind": kind, "plural": "podmonitors", "singular": "podmonitor", "listKind": f"{kind}List"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"podmonitors.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }
    client = api_tier.client()
    client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)

    def served() -> bool:
        try:
            client.get(f"/apis/{group}/v1/podmonitors")
        except ApiError:
            return False
        return True

    wait_for("the resource podmonitors", served)
