"""The catalogue: the names that dashboards use, bounded labels."""

import ast
import re
from pathlib import Path

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason, RejectionReason
from oz_agent_worker.protocol.outcome import FailurePhase
from oz_agent_worker.worker.telemetry.catalogue import METRICS, Metric, label_sets, metrics_for

SOURCE = Path(__file__).parents[4] / "src" / "oz_agent_worker" / "worker"

#: What the public worker has: operators' dashboards use exactly these.
PUBLIC = {
    "oz_worker_connected": ("gauge", ()),
    "oz_worker_tasks_active": ("up-down counter", ()),
    "oz_worker_tasks_max_concurrent": ("gauge", ()),
    "oz_worker_tasks_claimed_total": ("counter", ()),
    "oz_worker_tasks_rejected_total": ("counter", ("reason",)),
    "oz_worker_tasks_completed_total": ("counter", ("result",)),
    "oz_worker_task_duration_seconds": ("histogram", ("result",)),
    "oz_worker_task_failures_total": ("counter", ("phase", "reason")),
    "oz_worker_websocket_reconnects_total": ("counter", ("reason",)),
    "oz_worker_info": ("gauge", ("version", "backend", "worker_id")),
}


def test_the_public_names_are_here_unchanged() -> None:
    ours = {m.name: (m.kind, tuple(label.name for label in m.labels)) for m in METRICS}
    assert ours.items() >= PUBLIC.items()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_says_what_it_is(metric: Metric) -> None:
    assert re.fullmatch("oz_worker_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    assert metric.name.endswith("_seconds") is (metric.unit == "s")
    assert bool(metric.buckets) is (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.meaning.endswith(".")


def test_names_are_unique() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_combination_of_labels() -> None:
    metrics = metrics_for("direct")
    assert list(label_sets(metrics["oz_worker_connected"])) == [{}]
    assert list(label_sets(metrics["oz_worker_info"])) == []
    failures = list(label_sets(metrics["oz_worker_task_failures_total"]))
    assert len(failures) == len(FailurePhase) * len(FailureReason)
    assert {"phase": "backend", "reason": "image_pull"} in failures


def test_every_reason_to_reject_a_task_is_a_label() -> None:
    rejected = metrics_for("direct")["oz_worker_tasks_rejected_total"]
    assert [labels["reason"] for labels in label_sets(rejected)] == list(RejectionReason)


def test_a_metric_of_one_backend_is_its_workers_alone() -> None:
    name = "oz_worker_kubernetes_watch_lag_seconds"
    assert name in metrics_for("kubernetes")
    assert name not in metrics_for("direct")


def test_every_metric_is_recorded() -> None:
    named = {
        node.value
        for path in SOURCE.rglob("*.py")
        if path.name != "catalogue.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }
    assert [metric.name for metric in METRICS if metric.name not in named] == []
