"""A scripted API server, and backends on it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.kubernetes.backend import BackendSettings, KubernetesBackend

from .api_server import ApiServer
from .scripted import Start
from .worker import QUICK, running_backend


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
def start(server: ApiServer, tmp_path: Path) -> Start:
    """Start a backend on the server."""

    def begin(
        settings: BackendSettings = QUICK, **user: str
    ) -> AbstractAsyncContextManager[KubernetesBackend]:
        return running_backend(server.kubeconfig(tmp_path, **user), "ns", settings=settings)

    return begin
