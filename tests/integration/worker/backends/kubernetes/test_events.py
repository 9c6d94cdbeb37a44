"""The backend's events about requests, watches and starts, and the health of its watches."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.base import NoOutput
from oz_agent_worker.worker.backends.kubernetes.backend import KubernetesBackend
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.events import EventKind, RequestAnswered, TaskEvent, WatchRestarted, WorkerEvent
from tests.integration.worker.backends.harness import eventually, leave_alone
from tests.timeouts import HANG_TIMEOUT

from .api_server import ApiServer, breaks, says
from .worker import QUICK, task

KEY = ExecutionKey("run", "run-1")
JOB = job_name(KEY)


@dataclass
class Heard:
    """The worker events so far."""

    worker_events: list[WorkerEvent] = field(default_factory=list)

    def restarts(self, resource: str = "jobs") -> list[str]:
        return [
            n.reason for n in self.worker_events if isinstance(n, WatchRestarted) and n.resource == resource
        ]

    def started(self) -> list[ExecutionKey]:
        return [
            n.key
            for n in self.worker_events
            if isinstance(n, TaskEvent) and n.kind is EventKind.AGENT_STARTED
        ]


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
        config, worker_id="w", cleanup=True, environ={}, settings=QUICK, notify=heard.worker_events.append
    )
    assert backend.watches() == ()
    await backend.start(leave_alone)
    yield backend
    await backend.close()
    assert backend.watches() == ()


async def test_requests_are_reported_with_their_code_and_time(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    server.faults["create", "jobs"].append(says(503, "ServiceUnavailable"))
    await backend.launch(task("run"), NoOutput())
    requests = [n for n in heard.worker_events if isinstance(n, RequestAnswered) and n.verb == "create"]
    assert [(n.resource, n.code) for n in requests] == [("jobs", 503), ("jobs", 201)]
    assert all(0 < n.seconds < HANG_TIMEOUT for n in requests)
    assert TaskEvent(EventKind.JOB_NAMED, KEY, JOB) in heard.worker_events


async def test_a_watch_that_the_server_ends(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    assert heard.restarts() == []
    server.events_a_watch = 1
    await server.put("jobs", "a", metadata={"labels": {}})
    await server.put("jobs", "b", metadata={"labels": {}})
    await eventually(lambda: heard.restarts()[:1] == ["ended"])


async def test_a_watch_whose_place_is_lost(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    await server.compact()
    await eventually(lambda: heard.restarts() == ["relist"] and heard.restarts("pods") == ["relist"])


async def test_a_server_that_is_away_leaves_the_watches_deaf_and_alive(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    await eventually(lambda: len(backend.watches()) == 2)
    assert [(watch.resource, watch.alive) for watch in backend.watches()] == [("jobs", True), ("pods", True)]
    server.events_a_watch = 1
    for resource in ("jobs", "pods"):
        server.faults["watch", resource].extend([breaks] * 50)
        await server.put(resource, "a", metadata={"labels": {}})
    await eventually(lambda: min(heard.restarts(r).count("error") for r in ("jobs", "pods")) >= 3)
    for watch in backend.watches():
        assert watch.alive
        assert watch.idle_for < watch.silent_for < watch.idle_limit
        assert watch.idle_limit == 30 + 1 + 0.2 + 60


async def test_the_start_is_reported_once_when_the_pod_runs(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    execution = await backend.launch(task("run"), NoOutput())
    waiting = asyncio.create_task(execution.wait())
    uid = server.get("jobs", JOB)["metadata"]["uid"]
    await put_pod(server, uid, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    await asyncio.sleep(0.05)
    assert heard.started() == []
    await put_pod(server, uid, "Running", {"running": {}})
    await eventually(lambda: heard.started() == [KEY])
    await put_pod(server, uid, "Succeeded", {"terminated": {"exitCode": 0}})
    await server.finish(JOB)
    await waiting
    assert heard.started() == [KEY]


async def test_a_pod_that_was_never_seen_to_run_counts_as_started_at_its_end(
    backend: KubernetesBackend, server: ApiServer, heard: Heard
) -> None:
    execution = await backend.launch(task("run"), NoOutput())
    waiting = asyncio.create_task(execution.wait())
    await server.finish(JOB)
    await waiting
    assert heard.started() == [KEY]


async def put_pod(server: ApiServer, uid: str, phase: str, state: dict[str, Any]) -> None:
    labels = {"job-name": JOB, "batch.kubernetes.io/controller-uid": uid}
    status = {"phase": phase, "containerStatuses": [{"name": "task", "state": state}]}
    await server.put("pods", "pod", metadata={"labels": labels}, status=status)
