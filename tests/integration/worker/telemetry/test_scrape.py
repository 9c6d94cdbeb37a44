"""Prometheus and a kubelet, as a running worker sees them: real HTTP, Prometheus' own parser."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker import __version__
from oz_agent_worker.errors import UsageError
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase
from oz_agent_worker.worker.probes.server import Endpoint
from oz_agent_worker.worker.telemetry.catalogue import label_sets, metrics_for
from tests.integration.worker.scripted_plane import EXTENDED, PeerConnection, Plane, assignment, until
from tests.timeouts import HANG_TIMEOUT
from tests.unit.worker.telemetry.exposition import Exposition, exposed

from .conftest import Environ
from .running_worker import RunningWorker, free_port, running_worker

HOST = "127.0.0.1"


def task(name: str, *arguments: str) -> dict[str, Any]:
    created = {"id": name, "created_at": "2026-01-31T12:00:00Z"}
    return assignment(name, additional_oz_args=list(arguments)) | {"task": created}


async def two_tasks(connection: PeerConnection) -> None:
    await connection.send("task_assignment", **task("good"))
    await connection.send("task_assignment", **task("bad", "fail"))
    await connection.answer()


async def one_too_many(connection: PeerConnection) -> None:
    for name in ("stays", "stays-too", "too-many"):
        await connection.send("task_assignment", **task(name, "wait"))
    await connection.answer()


async def scrape(worker: RunningWorker, port: int) -> Exposition:
    status, text = await worker.get(port, "/metrics")
    assert status == 200
    return exposed(text)


async def test_a_scrape_of_a_worker_that_ran_tasks(tmp_path: Path, otel: Environ) -> None:
    port = free_port()
    environ = otel(
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_EXPORTER_PROMETHEUS_HOST=HOST,
        OTEL_EXPORTER_PROMETHEUS_PORT=port,
        OTEL_RESOURCE_ATTRIBUTES="team=blue",
    )
    async with running_worker(tmp_path, Plane([two_tasks], EXTENDED), environ) as worker:
        await until(
            lambda: sum("task_completed" in f or "task_failed" in f for f in worker.plane.frames) == 2
        )
        async with asyncio.timeout(HANG_TIMEOUT):
            while (seen := await scrape(worker, port)).value("oz_worker_tasks_by_phase", phase="finishing"):
                await asyncio.sleep(0.02)
    assert seen.value("oz_worker_connected") == 1
    assert seen.value("oz_worker_tasks_max_concurrent") == 2
    assert seen.value("oz_worker_tasks_active") == 0
    assert seen.value("oz_worker_tasks_claimed_total") == 2
    assert seen.value("oz_worker_tasks_completed_total", result="succeeded") == 1
    assert seen.value("oz_worker_tasks_completed_total", result="failed") == 1
    assert seen.value("oz_worker_tasks_completed_total", result="cancelled") == 0
    assert seen.value("oz_worker_task_failures_total", phase="backend", reason="container_exit") == 1
    assert seen.value("oz_worker_task_duration_seconds_count", result="succeeded") == 1
    assert seen.value("oz_worker_task_queue_to_start_seconds_count", since="created") == 2
    assert seen.value("oz_worker_info", version=__version__, backend="direct", worker_id="w") == 1
    (target,) = seen.series("target_info")
    assert (
        dict(target).items()
        >= {
            "service_name": "oz-agent-worker",
            "service_version": __version__,
            "worker_id": "w",
            "worker_backend": "direct",
            "team": "blue",
        }.items()
    )
    for metric in metrics_for("direct").values():
        expected = {tuple(sorted(labels.items())) for labels in label_sets(metric)}
        assert metric.kind == "histogram" or seen.series(metric.name) >= expected, metric.name
    assert len(seen.series("oz_worker_task_failures_total")) == len(FailurePhase) * len(FailureReason)


async def test_a_worker_that_is_busy(tmp_path: Path, otel: Environ) -> None:
    port = free_port()
    environ = otel(OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=port)
    async with running_worker(tmp_path, Plane([one_too_many], EXTENDED), environ) as worker:
        await until(lambda: any("task_rejected" in frame for frame in worker.plane.frames))
        async with asyncio.timeout(HANG_TIMEOUT):
            while (seen := await scrape(worker, port)).value("oz_worker_tasks_by_phase", phase="running") < 2:
                await asyncio.sleep(0.02)
    assert seen.value("oz_worker_tasks_active") == 2
    assert seen.value("oz_worker_tasks_rejected_total", reason="at_capacity") == 1
    assert seen.value("oz_worker_outbox_reports") == 0


async def test_one_port_for_probes_and_metrics(tmp_path: Path, otel: Environ) -> None:
    port = free_port()
    environ = otel(OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=port)
    plane = Plane([503, 503, two_tasks], EXTENDED)
    async with running_worker(tmp_path, plane, environ, probes=Endpoint("0.0.0.0", port)) as worker:
        await until(lambda: plane.requests)
        status, text = await worker.get(port, "/readyz")
        assert (status, json.loads(text)["failing"]) == (
            503,
            ["connection: not connected to the control plane"],
        )
        assert (await worker.get(port, "/healthz"))[0] == 200
        seen = await scrape(worker, port)
        assert seen.value("oz_worker_connected") == 0
        await until(lambda: plane.connections)
        async with asyncio.timeout(HANG_TIMEOUT):
            while (await worker.get(port, "/readyz"))[0] != 200:
                await asyncio.sleep(0.02)
        seen = await scrape(worker, port)
        assert seen.value("oz_worker_websocket_reconnects_total", reason="dial_failed") == 2
        assert (await worker.get(port, "/nowhere"))[0] == 404


async def test_the_health_port_serves_metrics_beside_their_own(tmp_path: Path, otel: Environ) -> None:
    port, own = free_port(), free_port()
    environ = otel(OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=own)
    async with running_worker(tmp_path, Plane([two_tasks]), environ, probes=Endpoint(HOST, port)) as worker:
        await until(lambda: worker.plane.connections)
        assert (await scrape(worker, port)).value("oz_worker_tasks_max_concurrent") == 2
        assert (await scrape(worker, own)).value("oz_worker_tasks_max_concurrent") == 2
        assert (await worker.get(own, "/healthz"))[0] == 404


async def test_without_prometheus_the_health_port_has_no_metrics(tmp_path: Path, otel: Environ) -> None:
    port = free_port()
    environ = otel(OTEL_METRICS_EXPORTER="none")
    async with running_worker(tmp_path, Plane([two_tasks]), environ, probes=Endpoint(HOST, port)) as worker:
        await until(lambda: worker.plane.connections)
        assert (await worker.get(port, "/metrics"))[0] == 404
        assert (await worker.get(port, "/healthz"))[0] == 200


async def test_a_metrics_port_that_is_taken_is_a_warning(
    tmp_path: Path, otel: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    taken = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = taken.sockets[0].getsockname()[1]
    environ = otel(
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_EXPORTER_PROMETHEUS_HOST=HOST,
        OTEL_EXPORTER_PROMETHEUS_PORT=port,
    )
    async with taken, running_worker(tmp_path, Plane([two_tasks]), environ) as worker:
        await until(lambda: worker.plane.connections)
        await worker.end()
    assert f"Metrics are not served: cannot listen on {HOST}:{port}" in caplog.text


async def test_a_health_port_that_is_taken_ends_the_worker(tmp_path: Path, otel: Environ) -> None:
    taken = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = taken.sockets[0].getsockname()[1]
    environ = otel(OTEL_METRICS_EXPORTER="none")
    async with (
        taken,
        running_worker(tmp_path, Plane([two_tasks]), environ, probes=Endpoint(HOST, port)) as worker,
    ):
        with pytest.raises(UsageError, match=f"--health-port: cannot listen on {HOST}:{port}"):
            await worker.running
