"""Telemetry never fails, and imports nothing that is not chosen."""

import logging
import subprocess
import sys

import pytest

from oz_agent_worker.worker.events import ConnectionChanged, WorkerEvent
from oz_agent_worker.worker.telemetry.resource import WorkerResource
from oz_agent_worker.worker.telemetry.telemetry import Telemetry

IDENTITY = WorkerResource(worker_id="w", version="1.2.3", backend="direct", max_concurrent_tasks=4)


def test_every_listener_hears_even_where_another_fails(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[WorkerEvent] = []

    def broken(worker_event: WorkerEvent) -> None:
        raise RuntimeError("broken")

    telemetry = Telemetry((broken, heard.append))
    telemetry.notify(ConnectionChanged(connected=True))
    telemetry.notify(ConnectionChanged(connected=True))
    assert heard == [ConnectionChanged(connected=True), ConnectionChanged(connected=True)]
    assert [r.getMessage() for r in caplog.records] == ["Telemetry failed at ConnectionChanged"]


async def test_without_an_exporter_there_is_nothing() -> None:
    telemetry = Telemetry()
    telemetry.begin({"OTEL_METRICS_EXPORTER": "none"}, IDENTITY)
    assert telemetry.prometheus is None
    await telemetry.close()


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"OTEL_METRICS_EXPORTER": "otlp"}, logging.WARNING),
        ({}, logging.DEBUG),
    ],
)
async def test_an_exporter_that_cannot_be_made_is_only_logged(
    environ: dict[str, str], level: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "-5")
    with caplog.at_level(logging.DEBUG):
        telemetry = Telemetry()
        telemetry.begin(environ, IDENTITY)
    telemetry.notify(ConnectionChanged(connected=True))
    logged = [(r.levelno, r.getMessage()) for r in caplog.records]
    assert [(number, text.partition(": interval")[0]) for number, text in logged] == [
        (level, "Telemetry: the otlp exporter cannot be made")
    ]
    await telemetry.close()


def test_libraries_that_are_not_installed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    telemetry = Telemetry()
    telemetry.begin({"OTEL_METRICS_EXPORTER": "prometheus"}, IDENTITY)
    assert telemetry.prometheus is None
    assert [r.getMessage() for r in caplog.records] == [
        "Telemetry: the prometheus exporter is not installed: pip install 'oz-agent-worker[prometheus]'"
    ]


def test_a_worker_without_exporters_imports_no_opentelemetry() -> None:
    program = (
        "import sys, oz_agent_worker.worker.app as app\n"
        "from oz_agent_worker.worker.telemetry.telemetry import Telemetry\n"
        "from oz_agent_worker.worker.telemetry.resource import WorkerResource\n"
        "identity = WorkerResource(worker_id='w', version='1', backend='direct')\n"
        "Telemetry().begin({'OTEL_METRICS_EXPORTER': 'none'}, identity)\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
