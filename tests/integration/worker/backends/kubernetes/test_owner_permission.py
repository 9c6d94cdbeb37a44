"""A worker whose Pod is in another namespace than its tasks: does it see its siblings? Real RBAC."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import Preflight
from oz_agent_worker.worker.checks import CheckResult, Severity, run_checks
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import behaviours
from tests.cluster.namespaces import RBAC
from tests.cluster.rest import wait_for
from tests.conftest import KubeletFactory
from tests.integration.worker.backends.harness import leave_alone

from .operators import may
from .test_preflight import SETTINGS

pytestmark = pytest.mark.cluster

RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}


@pytest.fixture
def elsewhere(api_tier: ApiTier) -> Iterator[str]:
    """A namespace in which the worker may do nothing: that of its own Pod."""
    name = api_tier.create_namespace()
    path = f"/apis/{RBAC}/v1/namespaces/{name}/roles/oz-agent-worker"
    api_tier.client().request("PUT", path, {"metadata": {"name": "oz-agent-worker"}, "rules": []})
    wait_for("no permissions", lambda: not may(api_tier, name, "pods", "get"))
    yield name
    api_tier.delete_namespace(name)


def grant(tier: ApiTier, namespace: str) -> None:
    """Give the worker what the chart gives it in the namespace of its own Pod."""
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}/roles/oz-agent-worker"
    tier.client().request("PUT", path, {"metadata": {"name": "oz-agent-worker"}, "rules": [RULE]})
    wait_for("the permission", lambda: may(tier, namespace, "pods", "get"))


@pytest.fixture
def environ(api_tier: ApiTier, elsewhere: str) -> dict[str, str]:
    """What a worker's Pod in the namespace ``elsewhere`` knows of itself."""
    return {
        "KUBECONFIG": str(api_tier.kubeconfig("worker")),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "OZ_POD_NAMESPACE": elsewhere,
    }


async def results(namespace: str, environ: Mapping[str, str]) -> AsyncIterator[tuple[str, CheckResult]]:
    config = KubernetesConfig(namespace=namespace)
    preflight = Preflight(config, worker_id="w", cleanup=True, environ=environ, may_create=False)
    async with aclosing(preflight):
        async for name, result in run_checks(preflight.checks()):
            yield name, result


async def test_doctor_says_whether_the_worker_sees_its_siblings(
    api_tier: ApiTier, namespace: str, elsewhere: str, environ: Mapping[str, str]
) -> None:
    async def check_permission() -> Any:
        found = {name: result async for name, result in results(namespace, environ)}
        assert Severity.FAIL not in {result.severity for result in found.values()}
        return found[f"pods: get ({elsewhere})"]

    missing = await check_permission()
    assert missing.severity is Severity.WARN
    assert f'cannot get resource "pods" in API group "" in the namespace "{elsewhere}"' in missing.detail
    assert missing.fix.splitlines()[-1] == '- {apiGroups: [""], resources: ["pods"], verbs: [get]}'
    await asyncio.to_thread(grant, api_tier, elsewhere)
    granted = await check_permission()
    assert (granted.severity, granted.detail) == (
        Severity.OK,
        "to see whether the worker that owns a Job is still there",
    )


async def test_where_both_are_in_one_namespace_there_is_nothing_to_say(
    namespace: str, environ: Mapping[str, str]
) -> None:
    names = [name async for name, _ in results(namespace, {**environ, "OZ_POD_NAMESPACE": namespace})]
    assert [name for name in names if name.startswith("pods: get")] == ["pods: get"]


async def test_a_preflight_passes_with_a_warning(
    namespace: str,
    elsewhere: str,
    environ: Mapping[str, str],
    kubelet: KubeletFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = KubernetesConfig(namespace=namespace)
    backend = KubernetesBackend(config, worker_id="w", cleanup=True, environ=environ, settings=SETTINGS)
    async with kubelet(behaviours.always(behaviours.succeed())):
        await backend.start(leave_alone)
        await backend.close()
    (warning,) = [message for message in caplog.messages if message.startswith("Preflight: ")]
    assert "running tasks of an earlier worker are left alone until they end" in warning
    assert warning.endswith(f"grant pods: get in namespace {elsewhere}")
