"""The end of what exports, where a collector does not answer."""

import threading
from typing import Any

import pytest

from oz_agent_worker.worker.telemetry import exporting
from oz_agent_worker.worker.telemetry.exporter_settings import ExporterSettings
from oz_agent_worker.worker.telemetry.exporting import Exporters
from oz_agent_worker.worker.telemetry.resource import WorkerResource


class Stuck:
    """A provider that waits for its collector for ever."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answered = threading.Event()

    def shutdown(self, **options: Any) -> None:
        self.asked.set()
        self.answered.wait()


@pytest.mark.parametrize("explicit", [True, False], ids=["asked for", "by default"])
def test_a_collector_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, explicit: bool
) -> None:
    monkeypatch.setattr(exporting, "_SHUTDOWN_TIMEOUT" if explicit else "_SHORT_SHUTDOWN_TIMEOUT", 0.01)
    made = Exporters(
        ExporterSettings(explicit=explicit),
        WorkerResource(worker_id="w", version="1", backend="direct"),
        lambda worker_event: None,
    )
    providers: Any = Stuck(), Stuck()
    made._meters, made._tracers = providers
    made.shut_down()
    for provider in providers:
        assert provider.asked.wait(0)
        provider.answered.set()
