"""The catalogue's instruments, made with OpenTelemetry's SDK."""

from collections.abc import Mapping
from typing import Protocol

from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

from .catalogue import Metric, label_sets

__all__ = ["Instruments"]


class _Gauge(Protocol):
    """What the API's synchronous gauge can do: it has no public name there."""

    def set(self, amount: float, attributes: Mapping[str, str]) -> None:
        """Set one series."""
        ...


class Instruments:
    """Each metric by its name. Every series of a bounded set exists at 0, but for the histograms."""

    def __init__(self, meter: Meter, metrics: Mapping[str, Metric]) -> None:
        self._sums: dict[str, Counter | UpDownCounter] = {}
        self._gauges: dict[str, _Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in metrics.values():
            self._make(meter, metric)

    def _make(self, meter: Meter, metric: Metric) -> None:
        name, unit, meaning = metric.name, metric.unit, metric.meaning
        match metric.kind:
            case "histogram":
                bounds = metric.buckets
                self._histograms[name] = meter.create_histogram(
                    name, unit, meaning, explicit_bucket_boundaries_advisory=bounds
                )
            case "gauge":
                self._gauges[name] = meter.create_gauge(name, unit, meaning)
                for labels in label_sets(metric):
                    self._gauges[name].set(0, labels)
            case _:
                make = meter.create_counter if metric.kind == "counter" else meter.create_up_down_counter
                self._sums[name] = make(name, unit, meaning)
                for labels in label_sets(metric):
                    self._sums[name].add(0, labels)

    def add(self, name: str, amount: int, **labels: str) -> None:
        """Add to a counter; a metric that this worker does not have is passed over."""
        if (instrument := self._sums.get(name)) is not None:
            instrument.add(amount, labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge; a metric that this worker does not have is passed over."""
        if (instrument := self._gauges.get(name)) is not None:
            instrument.set(value, labels)

    def record(self, name: str, value: float, **labels: str) -> None:
        """Record a value in a histogram; a metric that this worker does not have is passed over."""
        if (instrument := self._histograms.get(name)) is not None:
            instrument.record(value, labels)
