"""Providers and exporters of OpenTelemetry's SDK, made as the settings say.

What only one signal or exporter needs is imported where it is made: the idle worker's
memory counts.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from oz_agent_worker.worker.events import Notify

from .catalogue import metrics_for
from .default_collector import DefaultCollector
from .exporter_settings import ExporterSettings
from .instruments import Instruments
from .resource import WorkerResource
from .task_metrics import TaskMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from .task_spans import TaskSpans

__all__ = ["Exporters"]

T = TypeVar("T")

_SCOPE: Final = "oz_agent_worker"
#: How many seconds the last export may take, and how many if the exporter is not configured
#: and there is hardly a collector.
_SHUTDOWN_TIMEOUT: Final = 2.0
_SHORT_SHUTDOWN_TIMEOUT: Final = 0.3


class Exporters:
    """The exporters of one worker. One that cannot be made is named in ``problems``.

    ``notify`` gets the trace ID of each task. ``listeners`` must be given every event.
    ``instruments`` is set where metrics are exported, ``scrape`` where Prometheus reads them.
    """

    def __init__(self, settings: ExporterSettings, worker: WorkerResource, notify: Notify) -> None:
        self.problems: list[str] = []
        self.listeners: list[Notify] = []
        self.instruments: Instruments | None = None
        self.scrape: Callable[[], bytes] | None = None
        self._timeout = _SHUTDOWN_TIMEOUT if settings.explicit else _SHORT_SHUTDOWN_TIMEOUT
        self._spans: TaskSpans | None = None
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None
        # OTEL_SERVICE_NAME, and OTEL_RESOURCE_ATTRIBUTES, whose other attributes `create` adds.
        given = OTELResourceDetector().detect().attributes
        resource = Resource.create(
            {
                "service.name": given.get("service.name", "oz-agent-worker"),
                "service.version": worker.version,
                "worker.id": worker.worker_id,
                "worker.backend": worker.backend,
            }
        )
        otlp = _otlp_metrics if settings.explicit else lambda: DefaultCollector(_otlp_metrics)
        reader_factories = {
            "prometheus": self._prometheus,
            "otlp": lambda: PeriodicExportingMetricReader(otlp()),
            "console": lambda: PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stdout)),
        }
        if readers := self._make(settings.metrics, reader_factories):
            self._begin_metrics(readers, resource, worker)
        if exporters := self._make(settings.traces, {"otlp": _otlp_spans, "console": _console_spans}):
            self._begin_traces(exporters, resource, notify)

    def shut_down(self) -> None:
        """Export what is left, for seconds at most; blocks until then."""
        if self._spans is not None:
            self._spans.close()
        meters, tracers = self._meters, self._tracers
        shutdowns: list[Callable[[], object]] = []
        if meters is not None:
            shutdowns.append(lambda: meters.shutdown(timeout_millis=self._timeout * 1000))
        if tracers is not None:
            shutdowns.append(tracers.shutdown)
        # The process does not wait for a daemon thread, so a collector that does not answer blocks nothing.
        threads = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self._timeout)

    def _make(self, names: Iterable[str], factories: Mapping[str, Callable[[], T]]) -> list[T]:
        made: list[T] = []
        for name in sorted(names):
            try:
                made.append(factories[name]())
            except ImportError:
                self.problems.append(
                    f"the {name} exporter is not installed: pip install 'oz-agent-worker[{name}]'"
                )
            except Exception as error:  # noqa: BLE001  telemetry must not stop the worker, whatever a library raises
                self.problems.append(f"the {name} exporter cannot be made: {error}")
        return made

    def _begin_metrics(self, readers: list[MetricReader], resource: Resource, worker: WorkerResource) -> None:
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_SCOPE, worker.version)
        self.instruments = instruments = Instruments(meter, metrics_for(worker.backend))
        labels = {"version": worker.version, "backend": worker.backend, "worker_id": worker.worker_id}
        instruments.set("oz_worker_info", 1, **labels)
        instruments.set("oz_worker_tasks_max_concurrent", worker.max_concurrent_tasks)
        self.listeners.append(TaskMetrics(instruments))

    def _begin_traces(self, exporters: list["SpanExporter"], resource: Resource, notify: Notify) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from .task_spans import TaskSpans

        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._tracers.add_span_processor(BatchSpanProcessor(exporter))
        self._spans = TaskSpans(self._tracers.get_tracer(_SCOPE), notify)
        self.listeners.append(self._spans)

    def _prometheus(self) -> MetricReader:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        # Without this, every series would have the scope's labels, which dashboards do not know.
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
        self.scrape = lambda: generate_latest(registry)
        return reader


def _otlp_metrics() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def _otlp_spans() -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _console_spans() -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stdout)
