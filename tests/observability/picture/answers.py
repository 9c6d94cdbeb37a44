"""The dashboard's own queries, put to Prometheus as Grafana would."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.observability.prometheus import Prometheus, Series

__all__ = ["Answer", "Span", "answers", "interpolated", "legend"]

_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is shown, in seconds since the epoch, and the two that queries refer to."""

    start: float
    end: float
    step: float
    rate_interval: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A panel, and the series that it shows by their names; of instant queries with one point."""

    panel: Mapping[str, Any]
    series: tuple[tuple[str, Series], ...]


def interpolated(expression: str, variables: Mapping[str, str]) -> str:
    """Put values in place of ``$name`` (Grafana's global variables, and the dashboard's own)."""
    return re.sub(r"\$(\w+)", lambda found: variables[found[1]], expression)


def legend(pattern: str, labels: Mapping[str, str]) -> str:
    """Name a series as Grafana's ``legendFormat`` says."""
    return _LABEL.sub(lambda found: labels.get(found[1], ""), pattern) if pattern != "__auto" else ""


def answers(dashboard: Mapping[str, Any], prometheus: Prometheus, span: Span) -> Iterator[Answer]:
    """Ask for every panel; a row has no series."""
    variables = {
        "worker_id": ".*",
        "__rate_interval": f"{span.rate_interval:.0f}s",
        "__range": f"{span.end - span.start:.0f}s",
    }
    for panel in dashboard["panels"]:
        found: list[tuple[str, Series]] = []
        for target in panel.get("targets", ()):
            expression = interpolated(target["expr"], variables)
            if target["instant"]:
                series = prometheus.query(expression, span.end)
            else:
                series = prometheus.query_range(expression, span.start, span.end, span.step)
            found += [(legend(target["legendFormat"], item.labels), item) for item in series]
        yield Answer(panel, tuple(found))
