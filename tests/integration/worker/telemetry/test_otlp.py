"""Metrics and traces pushed to a real OTLP receiver; and what happens where there is none."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from oz_agent_worker import __version__
from oz_agent_worker.worker.events import EventKind, TaskEvent, WorkerEvent
from tests.integration.worker.scripted_plane import EXTENDED, PeerConnection, Plane, assignment, until

from .collector import collector, values
from .conftest import Environ
from .running_worker import running_worker


async def one_task(connection: PeerConnection) -> None:
    task = {"id": "t", "task_definition": {"prompt": "canary-prompt"}}
    await connection.send("task_assignment", **(assignment("t") | {"task": task}))
    await connection.answer()


async def completed(plane: Plane) -> None:
    await until(lambda: any("task_completed" in frame for frame in plane.frames))


async def test_metrics_arrive_with_their_resource_and_the_last_ones_at_the_end(
    tmp_path: Path, otel: Environ
) -> None:
    async with collector() as receiver:
        environ = otel(
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_METRIC_EXPORT_INTERVAL=100,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=blue",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        )
        async with running_worker(tmp_path, Plane([one_task], EXTENDED), environ) as worker:
            await until(lambda: receiver.metric_requests)
            await completed(worker.plane)
            await worker.end()
    assert receiver.headers[0]["x-tenant"] == "blue"
    assert (
        receiver.resource().items()
        >= {
            "service.name": "oz-agent-worker",
            "service.version": __version__,
            "worker.id": "w",
            "worker.backend": "direct",
        }.items()
    )
    metrics = receiver.latest()
    claimed = metrics["oz_worker_tasks_claimed_total"].sum
    assert claimed.is_monotonic
    assert claimed.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert [point.as_int for point in claimed.data_points] == [1]
    assert not metrics["oz_worker_tasks_active"].sum.is_monotonic
    assert metrics["oz_worker_connected"].gauge.data_points[0].as_int == 0
    assert metrics["oz_worker_task_duration_seconds"].unit == "s"
    (duration,) = metrics["oz_worker_task_duration_seconds"].histogram.data_points
    assert (values(duration.attributes), duration.count) == ({"result": "succeeded"}, 1)
    assert receiver.trace_requests == []


async def test_one_span_a_task(tmp_path: Path, otel: Environ) -> None:
    heard: list[WorkerEvent] = []
    async with collector() as receiver:
        environ = otel(
            OTEL_METRICS_EXPORTER="none",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        )
        plane = Plane([one_task], EXTENDED)
        async with running_worker(tmp_path, plane, environ, listeners=[heard.append]) as worker:
            await completed(worker.plane)
            await worker.end()
    (span,) = receiver.spans()
    assert span.name == "oz_worker.task"
    assert [event.name for event in span.events] == [
        "task.assigned",
        "backend.started",
        "task.claimed",
        "task.started",
        "task.completed",
    ]
    assert values(span.attributes).items() >= {"oz.task_id": "t", "oz.execution_id": "t-e1"}.items()
    assert [e.detail for e in heard if isinstance(e, TaskEvent) and e.kind is EventKind.TRACE_BEGAN] == [
        span.trace_id.hex()
    ]
    assert receiver.metric_requests == []
    assert b"canary" not in b"".join(r.SerializeToString() for r in receiver.trace_requests)


@pytest.mark.parametrize("status", [None, 500, 403], ids=["nobody listens", "HTTP 500", "HTTP 403"])
async def test_a_broken_collector_stops_nothing(
    tmp_path: Path, otel: Environ, caplog: pytest.LogCaptureFixture, status: int | None
) -> None:
    async with collector() as receiver:
        receiver.status = status or 200
        environ = otel(
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url if status else "http://127.0.0.1:1",
            OTEL_METRIC_EXPORT_INTERVAL=50,
            OTEL_BSP_SCHEDULE_DELAY=50,
        )
        async with running_worker(tmp_path, Plane([one_task], EXTENDED), environ) as worker:
            await completed(worker.plane)
            await until(lambda: "Telemetry: " in caplog.text)
            await worker.end()
    logged = [r for r in caplog.records if r.name == "oz_agent_worker.worker.telemetry.exporter_log"]
    assert {r.levelno for r in logged} == {logging.WARNING}
    assert len(logged) <= 8
    assert all("\n" not in r.getMessage() and r.exc_info is None for r in logged)


async def test_the_default_without_a_collector_is_quiet(
    tmp_path: Path, otel: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ = otel(OTEL_METRIC_EXPORT_INTERVAL=50)
    async with running_worker(tmp_path, Plane([one_task], EXTENDED), environ) as worker:
        await completed(worker.plane)
        await asyncio.sleep(0.2)
        await worker.end()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_the_console(tmp_path: Path, otel: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ = otel(OTEL_METRICS_EXPORTER="console", OTEL_TRACES_EXPORTER="console")
    async with running_worker(tmp_path, Plane([one_task], EXTENDED), environ) as worker:
        await completed(worker.plane)
        await worker.end()
    printed = capsys.readouterr().out
    documents, decoder = [], json.JSONDecoder()
    while printed := printed.lstrip():
        document, end = decoder.raw_decode(printed)
        documents.append(document)
        printed = printed[end:]
    assert any("resource_metrics" in document for document in documents)
    assert any(document.get("name") == "oz_worker.task" for document in documents)


async def test_none_exports_nothing(
    tmp_path: Path, otel: Environ, capsys: pytest.CaptureFixture[str]
) -> None:
    async with collector() as receiver:
        environ = otel(
            OTEL_METRICS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_METRIC_EXPORT_INTERVAL=20,
        )
        async with running_worker(tmp_path, Plane([one_task], EXTENDED), environ) as worker:
            await completed(worker.plane)
            await worker.end()
    assert receiver.metric_requests == receiver.trace_requests == []
    assert capsys.readouterr().out == ""
