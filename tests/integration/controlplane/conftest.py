from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from tests.timeouts import HANG_TIMEOUT

from .support import ScriptedWorker, bearer, until

Connect = Callable[..., ScriptedWorker]


@pytest.fixture
def settings(tmp_path: Path) -> ControlPlaneSettings:
    return ControlPlaneSettings(port=0, database_url=f"sqlite:///{tmp_path}/control-plane.db")


@pytest.fixture
async def server(settings: ControlPlaneSettings) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings) as server:
        yield server


@pytest.fixture
async def key(server: ControlPlane) -> Secret:
    return await server.create_api_key("alice")


@pytest.fixture
async def sdk(server: ControlPlane, key: Secret) -> AsyncIterator[AsyncOzAPI]:
    """The official client, as a user has it."""
    async with AsyncOzAPI(
        base_url=f"{server.url}/api/v1", api_key=key.reveal(), max_retries=0, timeout=HANG_TIMEOUT
    ) as client:
        yield client


@pytest.fixture
async def http(server: ControlPlane, key: Secret) -> AsyncIterator[aiohttp.ClientSession]:
    """A bare HTTP client with the key."""
    async with aiohttp.ClientSession(f"{server.url}/api/v1/", headers=bearer(key)) as session:
        yield session


@pytest.fixture
def worker(server: ControlPlane, key: Secret) -> Connect:
    def connect(worker_id: str = "w", **options: Any) -> ScriptedWorker:
        return ScriptedWorker(server.websocket_url, key, worker_id, **options)

    return connect


@pytest.fixture
def reaches(sdk: AsyncOzAPI) -> Callable[..., Any]:
    """Wait until a run is in a state."""

    async def wait(run_id: str, state: str) -> Any:
        return await until(lambda: sdk.agent.runs.retrieve(run_id), lambda run: run.state == state)

    return wait
