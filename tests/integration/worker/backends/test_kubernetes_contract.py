from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.worker.backends.base import AdoptableExecution, Backend
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, behaviours, execute

from .contract import BackendContract
from .harness import WORKER_ENVIRON, Harness, Scratch, leave_alone
from .kubernetes.worker import QUICK

pytestmark = pytest.mark.cluster


class KubernetesHarness:
    """The Kubernetes backend in a namespace of this test, where Pods run as processes of this host."""

    streams = True

    def __init__(self, tier: ApiTier, namespace: str, folder: Path) -> None:
        self._tier = tier
        self._namespace = namespace
        self._backends: list[Backend] = []
        self.program = folder / "agent"
        scratch = folder / "scratch"
        scratch.mkdir()
        self.scratch = Scratch(scratch)
        self.agent("exit 0")

    def agent(self, script: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    async def backend(
        self, *, cleanup: bool = True, found: Callable[[AdoptableExecution], None] = leave_alone
    ) -> Backend:
        config = KubernetesConfig(
            namespace=self._namespace,
            kubeconfig=str(self._tier.kubeconfig("worker")),
            termination_grace_period_seconds=1,
        )
        backend = KubernetesBackend(
            config, worker_id="contract", cleanup=cleanup, environ=WORKER_ENVIRON, settings=QUICK
        )
        await backend.start(found)
        self._backends.append(backend)
        return backend

    async def left(self) -> list[str]:
        client = self._tier.client()
        jobs: Any = client.get(f"/apis/batch/v1/namespaces/{self._namespace}/jobs")
        pods: Any = client.get(f"/api/v1/namespaces/{self._namespace}/pods")
        return [item["metadata"]["name"] for item in (*jobs["items"], *pods["items"])]

    async def close(self) -> None:
        for backend in self._backends:
            await backend.close()


class TestKubernetesContract(BackendContract):
    @pytest.fixture
    async def harness(
        self, api_tier: ApiTier, namespace: str, kubelet: Callable[..., Kubelet], tmp_path: Path
    ) -> AsyncIterator[Harness]:
        harness = KubernetesHarness(api_tier, namespace, tmp_path)
        async with kubelet(behaviours.always(execute([harness.program]))):
            yield harness
            await harness.close()
