"""A watch of which nothing is heard any more counts as lost, however often it has spoken before."""

from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.errors import UnreachableError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS

from .api_server import ApiServer


async def test_a_watch_that_falls_silent_is_lost(server: ApiServer, tmp_path: Path) -> None:
    async with KubernetesClient(load_credentials(str(server.kubeconfig(tmp_path)), environ={})) as client:
        page = await client.list_page(JOBS, "ns")
        watching = client.watch(
            JOBS,
            "ns",
            label_selector="",
            resource_version=page.metadata.resource_version or "",
            timeout_seconds=60,
            silence=0.5,
        )
        async with watching as chunks:
            await server.put("jobs", "job-1")
            assert b"job-1" in await anext(chunks)
            with pytest.raises(UnreachableError, match="Timeout on reading"):
                await anext(chunks)
