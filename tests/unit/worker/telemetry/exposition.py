"""Metrics as Prometheus would see them, for tests: exported for real, and parsed by its own parser."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from oz_agent_worker.worker.telemetry.catalogue import Metric
from oz_agent_worker.worker.telemetry.instruments import Instruments

__all__ = ["Exposition", "exposed", "instruments_for", "scraped"]


@dataclass(frozen=True)
class Exposition:
    """``samples`` by name and sorted labels; ``kinds`` by the family's name as it is in the text."""

    samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
    kinds: Mapping[str, str]

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def series(self, name: str) -> set[tuple[tuple[str, str], ...]]:
        return {labels for sample, labels in self.samples if sample == name}


def exposed(text: str) -> Exposition:
    """Parse the text format."""
    families = list(text_string_to_metric_families(text))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    return Exposition(samples, kinds)


def instruments_for(metrics: Iterable[Metric]) -> tuple[Instruments, CollectorRegistry]:
    """Instruments whose values a registry exports."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    return Instruments(provider.get_meter("tests"), {m.name: m for m in metrics}), registry


def scraped(registry: CollectorRegistry) -> Exposition:
    """What a scrape of the registry would give."""
    return exposed(generate_latest(registry).decode())
