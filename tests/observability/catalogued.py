"""Series of every metric in the catalogue, as two workers would show them, for a real Prometheus.

They are written in the OpenMetrics text format and become a block of Prometheus' storage
(``promtool tsdb create-blocks-from openmetrics``), so that nothing is waited for.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.telemetry.catalogue import METRICS, Metric, label_sets

from .prometheus import Programs

__all__ = ["END", "KNOWN", "START", "STEP", "labels_of", "metric_of", "write_block"]

#: The time of the samples, in seconds since the epoch: half an hour, one every half minute.
START: Final = 1_700_000_000
END: Final = START + 1800
STEP: Final = 30

#: Some values of the labels whose values only the running system knows.
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "version": ("1.0.0",),
    "backend": ("kubernetes",),
    "worker_id": ("w",),
    "verb": ("create", "list"),
    "resource": ("jobs", "pods"),
    "code": ("200", "503"),
}
_TARGETS: Final = (("a", "w"), ("b", "v"))
_PARTS: Final = ("bucket", "count", "sum")


def metric_of(name: str) -> Metric | None:
    """The metric that a series' name belongs to: a histogram has three names."""
    names = {
        shown: metric
        for metric in METRICS
        for shown in (
            [f"{metric.name}_{part}" for part in _PARTS] if metric.kind == "histogram" else [metric.name]
        )
    }
    return names.get(name)


def labels_of(metric: Metric) -> dict[str, tuple[str, ...]]:
    """Each label that a metric's series have, with its values; nothing where anything goes."""
    own = {label.name: label.values for label in metric.labels}
    return own | ({"le": ()} if metric.kind == "histogram" else {})


def write_block(programs: Programs, folder: Path) -> None:
    """Write the series into ``folder/data``.

    Raises:
        PrometheusError: promtool does not take them.
    """
    file = folder / "series.om"
    file.write_text("".join(_exposed()), encoding="utf-8")
    programs.tool("tsdb", "create-blocks-from", "openmetrics", file, folder / "data")


def _exposed() -> Iterator[str]:
    """Every series at every time; the type ``unknown`` takes any name."""
    for metric in METRICS:
        for name, labels in _series(metric):
            yield f"# TYPE {name} unknown\n" if labels is None else ""
            for n, t in enumerate(range(START, END + 1, STEP)):
                if labels is not None:
                    yield f"{name}{{{labels}}} {n + 1} {t}\n"
    yield "# EOF\n"


def _series(metric: Metric) -> Iterator[tuple[str, str | None]]:
    """Yield a name with None first, and then with the labels of each of its series."""
    histogram = metric.kind == "histogram"
    for name in [f"{metric.name}_{part}" for part in _PARTS] if histogram else [metric.name]:
        yield name, None
        bounds = [*map(str, metric.buckets), "+Inf"] if name.endswith("_bucket") else [None]
        for instance, worker in _TARGETS:
            for found in _label_sets(metric, worker):
                for bound in bounds:
                    labels = {"job": "oz", "instance": instance, **found} | ({"le": bound} if bound else {})
                    yield name, ",".join(f'{label}="{value}"' for label, value in labels.items())


def _label_sets(metric: Metric, worker: str) -> Iterator[dict[str, str]]:
    if all(label.values for label in metric.labels):
        yield from label_sets(metric)
        return
    found: list[dict[str, str]] = [{}]
    for label in metric.labels:
        values = (worker,) if label.name == "worker_id" else label.values or KNOWN[label.name]
        found = [one | {label.name: value} for one in found for value in values]
    yield from found
