"""Providers and exporters of OpenTelemetry's SDK, made as chosen.

What one signal or exporter needs alone is imported where it is made: the idle worker's
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
from .exporter_settings import Choice
from .instruments import Instruments
from .resource import Identity
from .task_metrics import TaskMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from .task_spans import TaskSpans

__all__ = ["Exporting"]

T = TypeVar("T")

_SCOPE: Final = "oz_agent_worker"
_SERVICE: Final = "oz-agent-worker"
#: How long, in seconds, the last metrics and spans may take to leave at the worker's end,
#: and how long where nobody asked for them: there is hardly a collector then.
_FAREWELL: Final = 2.0
_SHORT_FAREWELL: Final = 0.3


class Exporting:
    """What exports. An exporter that cannot be made is one of the ``problems``.

    ``notify`` hears which trace each task has. ``listeners`` are to hear of everything;
    ``instruments`` are there where metrics are exported, ``scrape`` where to Prometheus.
    """

    def __init__(self, choice: Choice, identity: Identity, notify: Notify) -> None:
        self.problems: list[str] = []
        self.listeners: list[Notify] = []
        self.instruments: Instruments | None = None
        self.scrape: Callable[[], bytes] | None = None
        self._farewell = _FAREWELL if choice.asked else _SHORT_FAREWELL
        self._spans: TaskSpans | None = None
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None
        resource = _resource(identity)
        otlp = _otlp_metrics if choice.asked else _metrics_for_a_local_collector
        readers = {"prometheus": self._prometheus, "otlp": otlp, "console": _console_metrics}
        if made := self._made(choice.metrics, readers):
            self._begin_metrics(made, resource, identity)
        exporters = {"otlp": _otlp_spans, "console": _console_spans}
        if wanted := self._made(choice.traces, exporters):
            self._begin_traces(wanted, resource, notify)

    def shut_down(self) -> None:
        """Export what is left, for seconds at most; blocks until then."""
        if self._spans is not None:
            self._spans.close()
        meters, tracers = self._meters, self._tracers
        partings: list[Callable[[], object]] = []
        if meters is not None:
            partings.append(lambda: meters.shutdown(timeout_millis=self._farewell * 1000))
        if tracers is not None:
            partings.append(tracers.shutdown)
        # A collector that does not answer is left in its thread, which the process does not wait for.
        threads = [threading.Thread(target=parting, daemon=True) for parting in partings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self._farewell)

    def _made(self, names: Iterable[str], makers: Mapping[str, Callable[[], T]]) -> list[T]:
        made: list[T] = []
        for name in sorted(names):
            try:
                made.append(makers[name]())
            except ImportError:
                self.problems.append(
                    f"the {name} exporter is not installed: pip install 'oz-agent-worker[{name}]'"
                )
            except Exception as error:  # noqa: BLE001  whatever a library objects to, the worker works
                self.problems.append(f"the {name} exporter cannot be made: {error}")
        return made

    def _begin_metrics(self, readers: list[MetricReader], resource: Resource, identity: Identity) -> None:
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_SCOPE, identity.version)
        self.instruments = instruments = Instruments(meter, metrics_for(identity.backend))
        labels = {"version": identity.version, "backend": identity.backend, "worker_id": identity.worker_id}
        instruments.set("oz_worker_info", 1, **labels)
        instruments.set("oz_worker_tasks_max_concurrent", identity.max_concurrent_tasks)
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
        # Labels of the scope would stand on every series, beside those that the dashboards know.
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
        self.scrape = lambda: generate_latest(registry)
        return reader


def _resource(identity: Identity) -> Resource:
    """What all metrics and spans are of; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` count."""
    given = OTELResourceDetector().detect().attributes
    return Resource.create(
        {
            "service.name": given.get("service.name", _SERVICE),
            "service.version": identity.version,
            "worker.id": identity.worker_id,
            "worker.backend": identity.backend,
        }
    )


def _otlp_exporter() -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def _otlp_metrics() -> MetricReader:
    return PeriodicExportingMetricReader(_otlp_exporter())


def _metrics_for_a_local_collector() -> MetricReader:
    return PeriodicExportingMetricReader(DefaultCollector(_otlp_exporter))


def _console_metrics() -> MetricReader:
    return PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stdout))


def _otlp_spans() -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _console_spans() -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stdout)
