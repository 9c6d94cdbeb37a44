"""What the backend tells of requests, watches and starts, and how it says that its watches are."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.events import EventKind, RequestAnswered, TaskEvent, WatchRestarted, WorkerEvent
from tests.integration.worker.backends.harness import leave_alone
from tests.timeouts import HANG_TIMEOUT

from .apiserver import ApiServer, says
from .worker import QUICK, task

KEY = ExecutionKey("run", "run-1")
JOB = job_name(KEY)


@dataclass
class Heard:
    """The notices so far."""

    notices: list[WorkerEvent] = field(default_factory=list)

    def restarts(self, resource: str = "jobs") -> list[str]:
        return [n.reason for n in self.notices if isinstance(n, WatchRestarted) and n.resource == resource]

    def started(self) -> list[ExecutionKey]:
        return [n.key for n in self.notices if isinstance(n, TaskEvent) and n.kind is EventKind.AGENT_STARTED]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
async def backend(server: ApiServer, heard: Heard, tmp_path: Path) -> AsyncIterator[KubernetesBackend]:
    config = KubernetesConfig(namespace="ns", kubeconfig=str(server.kubeconfig(tmp_path)))
    backend = KubernetesBackend(
        config, worker_id="w", cleanup=True, environ={}, settings=QUICK, notify=heard.notices.append
    )
    assert backend.watches() == ()
    await backend.start(leave_alone)
    yield backend
    await backend.close()
    assert backend.watches() == ()


async def test_requests_are_told_with_their_code_and_time(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    server.faults["create", "jobs"].append(says(503, "ServiceUnavailable"))
    await backend.launch(task("run"), NoOutput())
    told = [n for n in heard.notices if isinstance(n, RequestAnswered) and n.verb == "create"]
    assert [(n.resource, n.code) for n in told] == [("jobs", 503), ("jobs", 201)]
    assert all(0 < n.seconds < HANG_TIMEOUT for n in told)
    assert TaskEvent(EventKind.JOB_NAMED, KEY, JOB) in heard.notices
