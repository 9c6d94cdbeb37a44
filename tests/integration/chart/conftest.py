"""A Helm with a cluster, and what the objects of a chart are asked for there."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chart.helm_cli import Helm
from tests.chart.provisioned import helm_in
from tests.cluster.api_tier import ApiTier
from tests.cluster.errors import ApiError
from tests.cluster.rest import RestClient, wait_for
from tests.conftest import Cluster

from .monitoring import GROUP, POD_MONITORS, PROMETHEUS_RULES

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
def operator_resources(api_tier: ApiTier) -> None:
    """PodMonitor and PrometheusRule.

    Only the project's own cluster gets them: a definition is the whole cluster's.
    """
    client = api_tier.client()
    plurals = []
    for definition in (POD_MONITORS, PROMETHEUS_RULES):
        client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        plurals.append(definition["spec"]["names"]["plural"])

    def served() -> bool:
        try:
            for plural in plurals:
                client.get(f"/apis/{GROUP}/v1/{plural}")
        except ApiError:
            return False
        return True

    wait_for(f"the resources {' and '.join(plurals)}", served)
