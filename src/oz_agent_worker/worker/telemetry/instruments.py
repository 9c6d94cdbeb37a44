"""The catalogue's instruments, made with OpenTelemetry's SDK."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from .catalogue import Metric, label_sets

__all__ = ["Instruments"]


class _Gauge(Protocol):
    """What the API's synchronous gauge can do: it has no public name there."""

    def set(self, amount: float, attributes: Mapping[str, str]) -> None:
        """Set one series."""


class _Sum:
    """A counter's series. They are kept here and read at each export: the SDK takes far longer to add."""

    def __init__(self) -> None:
        self._series: dict[tuple[tuple[str, str], ...], int] = {}

    def add(self, amount: int, labels: Mapping[str, str]) -> None:
        """Add to one series."""
        series = tuple(sorted(labels.items()))
        self._series[series] = self._series.get(series, 0) + amount

    def observe(self, options: CallbackOptions) -> Iterator[Observation]:
        """Yield every series. Exporters ask from threads of their own, and so get a copy."""
        for series, value in list(self._series.items()):
            yield Observation(value, dict(series))


class Instruments:
    """Each metric by its name. Every series of a bounded set exists at 0, but for the histograms."""

    def __init__(self, meter: Meter, metrics: Mapping[str, Metric]) -> None:
        self._sums: dict[str, _Sum] = {}
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
                rising = metric.kind == "counter"
                make = meter.create_observable_counter if rising else meter.create_observable_up_down_counter
                self._sums[name] = _Sum()
                make(name, [self._sums[name].observe], unit, meaning)
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
