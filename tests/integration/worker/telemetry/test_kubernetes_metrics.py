"""What a worker with the Kubernetes backend shows: a real API server, a real scrape, a played kubelet."""

import asyncio
import json
from pathlib import Path

import pytest

from oz_agent_worker.worker.events import EventKind, TaskEvent, WorkerEvent
from oz_agent_worker.worker.probes.server import Endpoint
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import behaviours
from tests.conftest import KubeletFactory
from tests.integration.worker.scripted_plane import EXTENDED, PeerConnection, Plane, assignment, until
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.telemetry.exposition import exposed

from .conftest import Environ
from .running_worker import free_port, running_worker

pytestmark = pytest.mark.cluster


async def one_task(connection: PeerConnection) -> None:
    await connection.send("task_assignment", **assignment("t"), docker_image="agent.test/agent:1")
    await connection.answer()


async def test_requests_watches_phases_and_probes(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, tmp_path: Path, otel: Environ
) -> None:
    port = free_port()
    environ = otel(OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=port)
    kubeconfig = await asyncio.to_thread(api_tier.kubeconfig, "worker", namespace)
    backend = {"kubernetes": {"namespace": namespace, "kubeconfig": str(kubeconfig)}}
    plane = Plane([one_task], EXTENDED)
    heard: list[WorkerEvent] = []
    probes, listeners = Endpoint("127.0.0.1", port), [heard.append]
    async with (
        kubelet(behaviours.always(behaviours.succeed())),
        running_worker(
            tmp_path, plane, environ, backend=backend, probes=probes, listeners=listeners
        ) as worker,
    ):
        await until(lambda: any("task_completed" in frame for frame in plane.frames), HANG_TIMEOUT)
        status, health = await worker.get(port, "/healthz")
        assert status == 200, health
        assert {check["name"] for check in json.loads(health)["checks"]} == {
            "event_loop",
            "watch_jobs",
            "watch_pods",
        }
        assert (await worker.get(port, "/readyz"))[0] == 200
        seen = exposed((await worker.get(port, "/metrics"))[1])
    wanted = {EventKind.JOB_NAMED, EventKind.STARTED, EventKind.AGENT_STARTED, EventKind.ENDED}
    about = [e for e in heard if isinstance(e, TaskEvent) and e.kind in wanted]
    assert [e.kind for e in about[:2]] == [EventKind.JOB_NAMED, EventKind.STARTED]
    assert [e.kind for e in about[-2:]] == [EventKind.AGENT_STARTED, EventKind.ENDED]
    (job,) = {e.detail for e in about if e.kind is EventKind.JOB_NAMED}
    assert job.startswith("oz-")
    requests = "oz_worker_kubernetes_requests_total"
    assert seen.value(requests, verb="create", resource="jobs", code="201") >= 1
    assert seen.value(requests, verb="watch", resource="pods", code="200") == 1
    seconds = "oz_worker_kubernetes_request_duration_seconds"
    assert seen.value(f"{seconds}_count", verb="watch", resource="jobs") == 1
    for resource in ("jobs", "pods"):
        assert 0 <= seen.value("oz_worker_kubernetes_watch_lag_seconds", resource=resource) < 90
        for reason in ("ended", "error", "relist"):
            labels = {"resource": resource, "reason": reason}
            assert seen.value("oz_worker_kubernetes_watch_restarts_total", **labels) == 0
    assert seen.value("oz_worker_task_start_to_end_seconds_count", result="succeeded") == 1
