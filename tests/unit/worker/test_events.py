"""The table of task events, and when a watch counts as alive."""

from pathlib import Path

import pytest

from oz_agent_worker.worker.events import EventKind, WatchStatus
from oz_agent_worker.worker.telemetry.catalogue import METRICS


@pytest.mark.parametrize(
    ("running", "idle_for", "alive"),
    [(True, 0.0, True), (True, 100.0, True), (True, 100.1, False), (False, 0.0, False)],
)
def test_it_runs_and_keeps_within_its_limit(running: bool, idle_for: float, alive: bool) -> None:
    status = WatchStatus("jobs", running=running, silent_for=1e6, idle_for=idle_for, idle_limit=100.0)
    assert status.alive is alive


def test_the_document_shows_every_event_of_the_span() -> None:
    document = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    names = [kind.value.span_event for kind in EventKind if kind.value.span_event is not None]
    assert [name for name in names if f"| `{name}` |" not in document] == []


def test_each_counter_and_its_label_are_in_the_catalogue() -> None:
    metrics = {metric.name: metric for metric in METRICS}
    for kind in EventKind:
        if kind.value.counter is not None:
            labels = [label.name for label in metrics[kind.value.counter].labels]
            assert labels == ([kind.value.label] if kind.value.label else [])
