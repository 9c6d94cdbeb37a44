"""Worker events become metrics, measured through the exporter and Prometheus' own parser."""

from dataclasses import dataclass, field

import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import FailurePhase, Outcome, TaskResult, failed, succeeded
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.events import (
    ConnectionChanged,
    EventKind,
    Reconnecting,
    RequestAnswered,
    TaskEvent,
    WatchRestarted,
)
from oz_agent_worker.worker.telemetry.catalogue import METRICS, label_sets
from oz_agent_worker.worker.telemetry.task_metrics import TaskMetrics

from .exposition import Exposition, instruments_for, scraped

KEY, OTHER = ExecutionKey("t", "e"), ExecutionKey("u", "f")


@dataclass
class Rig:
    """A listener whose clocks the test moves; 12:00 on the wall is 1000 on the other."""

    now: float = 1000.0
    wall: float = 1769860800.0  # 2026-01-31T12:00:00Z
    listener: TaskMetrics = field(init=False)

    def __post_init__(self) -> None:
        instruments, self.registry = instruments_for(METRICS)
        self.listener = TaskMetrics(instruments, monotonic=lambda: self.now, wall=lambda: self.wall)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def scrape(self) -> Exposition:
        return scraped(self.registry)

    def phases(self) -> dict[str, float]:
        seen = self.scrape()
        phases = ("creating", "pending", "running", "finishing")
        return {p: n for p in phases if (n := seen.value("oz_worker_tasks_by_phase", phase=p))}


def test_every_bounded_series_is_there_from_the_start_but_for_histograms() -> None:
    seen = Rig().scrape()
    for metric in METRICS:
        if metric.kind == "histogram":
            assert not seen.series(f"{metric.name}_count")
            continue
        expected = {tuple(sorted(labels.items())) for labels in label_sets(metric)}
        assert seen.series(metric.name) == expected, metric.name
    assert set(seen.samples.values()) == {0.0, 1.0}  # 1: target_info
    assert [labels for (name, labels), value in seen.samples.items() if value] == [
        next(iter(seen.series("target_info")))
    ]


def test_names_and_kinds_are_exact() -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY))
    rig.listener(TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()))
    kinds = rig.scrape().kinds
    assert kinds["oz_worker_tasks_claimed_total"] == "counter"
    assert kinds["oz_worker_tasks_active"] == "gauge"
    assert kinds["oz_worker_connected"] == "gauge"
    assert kinds["oz_worker_task_duration_seconds"] == "histogram"
    names = {metric.name for metric in METRICS} | {"target_info"}
    assert set(kinds) <= names


def test_the_life_of_a_task() -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY, "2026-01-31T11:59:50Z"))
    assert rig.phases() == {"creating": 1}
    assert rig.scrape().value("oz_worker_tasks_active") == 1
    rig.listener(TaskEvent(EventKind.STARTED, KEY))
    rig.listener(TaskEvent(EventKind.CLAIMED, KEY))
    assert rig.phases() == {"pending": 1}
    rig.later(5)
    rig.listener(TaskEvent(EventKind.AGENT_STARTED, KEY))
    rig.listener(TaskEvent(EventKind.AGENT_STARTED, KEY))
    assert rig.phases() == {"running": 1}
    rig.later(60)
    rig.listener(TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()))
    assert rig.phases() == {"finishing": 1}
    assert rig.scrape().value("oz_worker_tasks_active") == 0
    rig.listener(TaskEvent(EventKind.RELEASED, KEY))
    seen = rig.scrape()
    assert rig.phases() == {}
    assert seen.value("oz_worker_tasks_claimed_total") == 1
    assert seen.value("oz_worker_tasks_completed_total", result="succeeded") == 1
    assert seen.value("oz_worker_task_queue_to_start_seconds_sum", since="created") == 15
    assert seen.value("oz_worker_task_queue_to_start_seconds_count", since="created") == 1
    assert seen.value("oz_worker_task_start_to_end_seconds_sum", result="succeeded") == 60
    assert seen.value("oz_worker_task_duration_seconds_sum", result="succeeded") == 65
    assert seen.value("oz_worker_task_duration_seconds_bucket", result="succeeded", le="60.0") == 0
    assert seen.value("oz_worker_task_duration_seconds_bucket", result="succeeded", le="120.0") == 1


@pytest.mark.parametrize(
    ("created_at", "since", "seconds"),
    [
        ("", "assigned", 5),
        ("yesterday", "assigned", 5),
        ("2026-01-31T12:00:00+00:00", "created", 5),
        ("2026-01-31T12:00:00", "created", 5),
        ("2026-01-31T13:00:00+01:00", "created", 5),
        ("2026-01-31T12:30:00Z", "created", 0),
    ],
)
def test_since_when_a_task_waited(created_at: str, since: str, seconds: float) -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY, created_at))
    rig.later(5)
    rig.listener(TaskEvent(EventKind.AGENT_STARTED, KEY))
    assert rig.scrape().value("oz_worker_task_queue_to_start_seconds_sum", since=since) == seconds


def test_an_adopted_task_has_a_phase_and_no_times() -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ADOPTED, KEY))
    assert rig.phases() == {"pending": 1}
    rig.listener(TaskEvent(EventKind.AGENT_STARTED, KEY))
    rig.listener(TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()))
    seen = rig.scrape()
    assert seen.value("oz_worker_tasks_taken_over_total") == 1
    assert seen.value("oz_worker_tasks_completed_total", result="succeeded") == 1
    for name in ("task_duration", "task_queue_to_start", "task_start_to_end"):
        assert not seen.series(f"oz_worker_{name}_seconds_count")


@pytest.mark.parametrize("ended", [True, False])
def test_an_end_before_the_adoption_is_not_counted(ended: bool) -> None:
    """A failed Job stays for its TTL: every worker that starts meanwhile finds and reports it."""
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ADOPTED, KEY, already_ended=ended))
    rig.listener(
        TaskEvent(EventKind.ENDED, KEY, outcome=failed(FailureReason.CONTAINER_EXIT, "x", exit_code=1))
    )
    assert rig.phases() == {"finishing": 1}
    rig.listener(TaskEvent(EventKind.RELEASED, KEY))
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY))  # run anew, it counts again
    rig.listener(TaskEvent(EventKind.ENDED, KEY, outcome=succeeded()))
    seen = rig.scrape()
    assert seen.value("oz_worker_tasks_taken_over_total") == 1
    counted = 0 if ended else 1
    assert seen.value("oz_worker_tasks_completed_total", result="failed") == counted
    failures = seen.value("oz_worker_task_failures_total", phase="backend", reason="container_exit")
    assert failures == counted
    assert seen.value("oz_worker_tasks_completed_total", result="succeeded") == 1
    assert seen.value("oz_worker_tasks_active") == 0


def test_a_failure_has_its_phase_and_reason() -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY))
    rig.listener(
        TaskEvent(
            EventKind.ENDED, KEY, outcome=failed(FailureReason.JOB_CREATE, "x", phase=FailurePhase.ASSIGNMENT)
        )
    )
    rig.listener(TaskEvent(EventKind.CLEANUP_FAILED, KEY))
    rig.listener(TaskEvent(EventKind.ENDED, OTHER, outcome=Outcome(TaskResult.FAILED, "of no known reason")))
    seen = rig.scrape()
    assert seen.value("oz_worker_task_failures_total", phase="assignment", reason="job_create") == 1
    assert seen.value("oz_worker_task_failures_total", phase="cleanup", reason="cleanup") == 1
    assert seen.value("oz_worker_task_failures_total", phase="backend", reason="unknown") == 1
    assert seen.value("oz_worker_tasks_completed_total", result="failed") == 2


def test_what_is_handed_back_takes_no_slot() -> None:
    rig = Rig()
    rig.listener(TaskEvent(EventKind.REJECTED, OTHER, "at_capacity"))
    rig.listener(TaskEvent(EventKind.ASSIGNED, KEY))
    rig.listener(TaskEvent(EventKind.REJECTED, KEY, "backend_unavailable"))
    rig.listener(TaskEvent(EventKind.RELEASED, KEY))
    seen = rig.scrape()
    assert seen.value("oz_worker_tasks_rejected_total", reason="at_capacity") == 1
    assert seen.value("oz_worker_tasks_rejected_total", reason="backend_unavailable") == 1
    assert seen.value("oz_worker_tasks_active") == 0
    assert rig.phases() == {}


def test_the_connection() -> None:
    rig = Rig()
    rig.listener(Reconnecting("dial_failed"))
    rig.listener(ConnectionChanged(connected=True))
    assert rig.scrape().value("oz_worker_connected") == 1
    rig.listener(ConnectionChanged(connected=False))
    rig.listener(Reconnecting("remote_close"))
    seen = rig.scrape()
    assert seen.value("oz_worker_connected") == 0
    assert seen.value("oz_worker_websocket_reconnects_total", reason="dial_failed") == 1
    assert seen.value("oz_worker_websocket_reconnects_total", reason="remote_close") == 1


def test_requests_and_watches() -> None:
    rig = Rig()
    rig.listener(RequestAnswered("create", "jobs", 201, 0.02))
    rig.listener(RequestAnswered("create", "jobs", 0, 10.0))
    rig.listener(WatchRestarted("pods", "relist"))
    seen = rig.scrape()
    name = "oz_worker_kubernetes_requests_total"
    assert seen.value(name, verb="create", resource="jobs", code="201") == 1
    assert seen.value(name, verb="create", resource="jobs", code="none") == 1
    seconds = "oz_worker_kubernetes_request_duration_seconds"
    assert seen.value(f"{seconds}_sum", verb="create", resource="jobs") == pytest.approx(10.02)
    restarts = "oz_worker_kubernetes_watch_restarts_total"
    assert seen.value(restarts, resource="pods", reason="relist") == 1
