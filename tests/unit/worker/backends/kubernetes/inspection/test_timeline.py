from typing import Any

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.inspection.timeline import MAX_EVENTS, timeline
from tests.unit.worker.backends.kubernetes.samples import running, terminated, waiting
from tests.unit.worker.backends.kubernetes.tasks import CREATED, LATER, event, task_job, task_pod


def timeline_of(*args: Any, **more: Any) -> list[tuple[str, str]]:
    return [(line.about, line.text) for line in timeline(*args, **more)]


def test_from_the_whole_to_the_parts() -> None:
    job = task_job({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"})
    pod = task_pod(
        "Failed",
        initContainerStatuses=[terminated("setup", 0)],
        containerStatuses=[terminated("task", 137, reason="OOMKilled"), running("helper")],
    )
    assert timeline_of(job, [pod], [event("Killing", "Stopping\n container", kind="Normal")]) == [
        ("Job oz-task-run-1-exec-exec-1", "created"),
        ("Job oz-task-run-1-exec-exec-1", "Failed (BackoffLimitExceeded: limit)"),
        ("Pod oz-task-run-1-abcde", "Failed on node node-1"),
        ("init container setup", "ended with exit code 0"),
        ("container task", "ended with exit code 137 (SIGKILL) (OOMKilled)"),
        ("container helper", "runs"),
        ("event of Pod", "Killing by kubelet: Stopping container"),
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (waiting("task", "ImagePullBackOff", "later"), "waits (ImagePullBackOff: later)"),
        ({"name": "task"}, "waits"),
        (
            waiting("task", "CrashLoopBackOff", restartCount=2, lastState=terminated("x", 1)["state"]),
            "waits (CrashLoopBackOff), started 3 times; it ended before with exit code 1",
        ),
        (
            {"name": "task", "state": {"terminated": {"exitCode": 0, "signal": 9}}},
            "ended with exit code 137 (SIGKILL)",
        ),
    ],
)
def test_a_container_in_a_line(status: dict[str, Any], line: str) -> None:
    assert timeline_of(task_job(), [task_pod("Pending", containerStatuses=[status])], [])[-1] == (
        "container task",
        line,
    )


def test_conditions_of_a_pod_that_explain_more_than_its_containers() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"},
        {"type": "Ready", "status": "False"},
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"},
    ]
    assert timeline_of(task_job(), [task_pod("Pending", conditions=conditions)], [])[2:] == [
        ("Pod oz-task-run-1-abcde", "PodScheduled is false (Unschedulable: no node)"),
        ("Pod oz-task-run-1-abcde", "DisruptionTarget (PreemptionByScheduler)"),
    ]


def test_the_newest_events_are_shown_in_the_order_of_their_time() -> None:
    times = [f"2026-01-01T12:{minute:02}:00Z" for minute in range(MAX_EVENTS + 5)]
    events = [
        msgspec.convert({"reason": f"E{n}", "message": "m", "eventTime": time}, EventView)
        for n, time in reversed(list(enumerate(times)))
    ]
    lines = list(timeline(task_job(), [], events))[1:]
    assert [line.at for line in lines] == times[5:]
    assert lines[0].text == "E5: m"


def test_a_repeated_event_says_how_often_and_when_last() -> None:
    series = {"count": 7, "lastObservedTime": LATER}
    repeated = msgspec.convert(
        {
            "reason": "BackOff",
            "message": "m",
            "eventTime": CREATED,
            "series": series,
            "reportingComponent": "k",
        },
        EventView,
    )
    (line,) = list(timeline(task_job(), [], [repeated]))[1:]
    assert (line.text, line.at) == ("BackOff by k (7 times): m", LATER)


def test_a_deletion_is_in_the_timeline() -> None:
    pod = task_pod("Running", metadata={"deletionTimestamp": LATER})
    texts = [text for _, text in timeline_of(task_job(deletionTimestamp=LATER), [pod], [])]
    assert texts == [
        "created",
        "deleted",
        "Running on node node-1",
        "being deleted, ends at this time at the latest",
    ]


def test_the_pods_of_a_job_are_shown_in_the_order_of_their_creation() -> None:
    first = task_pod("Failed", node=None, metadata={"name": "p-1", "creationTimestamp": CREATED})
    second = task_pod("Pending", node=None, metadata={"name": "p-2", "creationTimestamp": LATER})
    timeless = task_pod("", node=None, metadata={"name": "p-0", "creationTimestamp": None})
    assert timeline_of(task_job(), [second, first, timeless], [])[1:] == [
        ("Pod p-0", "of unknown phase"),
        ("Pod p-1", "Failed"),
        ("Pod p-2", "Pending"),
    ]


def test_unreadable_events_are_listed_as_missing() -> None:
    assert timeline_of(task_job(), [], [], unread="no permission")[1:] == [("events", "no permission")]


def test_a_condition_that_does_not_hold_is_left_out() -> None:
    assert timeline_of(task_job({"type": "Failed", "status": "False"}), [], [])[1:] == []


def test_an_event_may_lack_everything() -> None:
    assert timeline_of(task_job(), [], [EventView()])[1:] == [("event of an object", "no reason: ")]
