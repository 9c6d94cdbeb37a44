"""The default exporter is loaded when something listens, and not before."""

import socket

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from oz_agent_worker.worker.telemetry.default_collector import DefaultCollector

DATA = MetricsData([])


class Recorder(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[MetricsData] = []
        self.ended = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        self.seen.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self.ended = True


def test_a_collector_that_comes_later() -> None:
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        exporter = DefaultCollector(make, listener.getsockname())
        assert exporter.export(DATA) is MetricExportResult.FAILURE
        assert made == []
        listener.listen()
        assert exporter.export(DATA) is MetricExportResult.SUCCESS
        assert exporter.export(DATA) is MetricExportResult.SUCCESS
    (recorder,) = made
    assert recorder.seen == [DATA, DATA]
    assert exporter.force_flush()
    exporter.shutdown()
    assert recorder.ended


def test_a_collector_that_never_comes() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        exporter = DefaultCollector(Recorder, listener.getsockname())
        exporter.export(DATA)
    exporter.shutdown()
