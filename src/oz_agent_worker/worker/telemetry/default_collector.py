"""Metrics for a collector that is not configured: OTLP is the default exporter, and most machines have none.

The exporter and what it needs take 8 MiB, so they are loaded once something listens where
a collector on the same machine would.
"""

import socket
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

__all__ = ["DefaultCollector"]

#: OTLP/HTTP's default endpoint (OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP").
_ENDPOINT: Final = ("localhost", 4318)
_CONNECT_TIMEOUT: Final = 1.0


class DefaultCollector(MetricExporter):
    """Exports through the exporter of ``make``, as soon as ``endpoint`` accepts connections."""

    def __init__(self, make: Callable[[], MetricExporter], endpoint: tuple[str, int] = _ENDPOINT) -> None:
        super().__init__()
        self._make = make
        self._endpoint = endpoint
        self._exporter: MetricExporter | None = None

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export, if there is a collector."""
        if self._exporter is None:
            try:
                socket.create_connection(self._endpoint, _CONNECT_TIMEOUT).close()
            except OSError:
                return MetricExportResult.FAILURE
            self._exporter = self._make()
        return self._exporter.export(metrics_data, timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down, if it was made."""
        if self._exporter is not None:
            self._exporter.shutdown(timeout_millis, **kwargs)
