"""One row a Job that is gone: its events, and the beginning of the answer."""

from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.inspection.bundle import deleted_job_files
from oz_agent_worker.worker.backends.kubernetes.inspection.deleted_jobs import (
    explain_deleted,
    find_deleted_jobs,
)
from oz_agent_worker.worker.backends.kubernetes.inspection.render_text import render_text
from oz_agent_worker.worker.backends.kubernetes.inspection.task_jobs import AmbiguousTaskError
from oz_agent_worker.worker.backends.kubernetes.inspection.task_state import State
from oz_agent_worker.worker.backends.kubernetes.manifest.naming import job_name
from tests.unit.worker.backends.kubernetes.tasks import NOW

JOB = "oz-task-run-1-exec-exec-1"
POD = f"{JOB}-abcde"
SECOND = f"{JOB}-fghij"


def event(
    kind: str, name: str, reason: str, message: str = "", *, at: int = 0, warns: bool = True
) -> EventView:
    document: dict[str, Any] = {
        "involvedObject": {"kind": kind, "name": name},
        "type": "Warning" if warns else "Normal",
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-01-01T12:{at // 60:02}:{at % 60:02}Z",
    }
    return msgspec.convert(document, EventView)


def of_job(reason: str, message: str = "", *, at: int = 0, warns: bool = False, job: str = JOB) -> EventView:
    return event("Job", job, reason, message, at=at, warns=warns)


def of_pod(reason: str, message: str = "", *, at: int = 0, warns: bool = True, pod: str = POD) -> EventView:
    return event("Pod", pod, reason, message, at=at, warns=warns)


CREATED = of_job("SuccessfulCreate", f"Created pod: {POD}")
STARTED = of_pod("Started", "Started container task", at=20, warns=False)
NO_NODE = of_pod("FailedScheduling", "0/3 nodes are available", at=10)
FAILED = of_job("BackoffLimitExceeded", "Job has reached the specified backoff limit", at=60, warns=True)

ROWS = {
    "succeeded": (
        [CREATED, NO_NODE, of_job("Completed", "Job completed", at=60)],
        "",
        "succeeded, and its Job was deleted, as it is when its result is delivered.",
    ),
    "no image": (
        [
            CREATED,
            of_pod("Failed", "Failed to pull image x: not found", at=10),
            of_pod("Failed", "Error: ErrImagePull", at=11),
            of_pod("Failed", "Error: ImagePullBackOff", at=12),
        ],
        "",
        "has no Job any more: it was deleted before it had ended, after a warning (Failed: Failed to pull"
        " image x: not found).",
    ),
    "no node": (
        [CREATED, NO_NODE, of_pod("FailedScheduling", "skip schedule deleting pod: ns/p", at=20)],
        "",
        "has no Job any more: it was deleted before it had ended, after a warning (FailedScheduling: 0/3",
    ),
    "one word alone": (
        [CREATED, of_pod("Failed", "Error: ErrImageNeverPull", at=10)],
        "",
        "has no Job any more: it was deleted before it had ended, after a warning (Failed: Error: ErrImage",
    ),
    "no room": (
        [of_job("FailedCreate", "Error creating: exceeded quota: q", warns=True)],
        "",
        "has no Job any more: it was deleted before it had ended, after a warning (FailedCreate: Error",
    ),
    "cancelled": (
        [CREATED, NO_NODE, STARTED, of_pod("Killing", "Stopping container task", at=50, warns=False)],
        "",
        "has no Job any more: it was deleted before it had ended, as one that is cancelled is.",
    ),
    "failed": (
        [CREATED, STARTED, FAILED],
        "",
        "failed (BackoffLimitExceeded: Job has reached the specified backoff limit), and its Job is gone:",
    ),
    "preempted": (
        [CREATED, STARTED, of_pod("Preempted", "Preempted by pod p", at=50, warns=False), FAILED],
        "pod_preempted",
        "failed (pod_preempted), and its Job is gone: The Pod was preempted: a Pod of a higher priority took",
    ),
    "preempted, then failed": (
        [
            CREATED,
            of_pod("Preempted", "Preempted by pod p", at=5, warns=False),
            of_job("SuccessfulCreate", f"Created pod: {SECOND}", at=10),
            of_pod("Started", "Started container task", at=20, warns=False, pod=SECOND),
            of_job("PodFailurePolicy", "Container task failed with exit code 1", at=60, warns=True),
        ],
        "",
        "failed (PodFailurePolicy: Container task failed with exit code 1), and its Job is gone:",
    ),
    "preempted, then cancelled": (
        [
            CREATED,
            of_pod("FailedScheduling", "0/3 nodes", at=2),
            of_pod("Preempted", "Preempted by pod p", at=5, warns=False),
            of_job("SuccessfulCreate", f"Created pod: {SECOND}", at=10),
            of_pod("Pulling", "Pulling image", at=20, warns=False, pod=SECOND),
        ],
        "",
        "has no Job any more: it was deleted before it had ended, as one that is cancelled is.",
    ),
    "the Pod's events alone": (
        [of_pod("Unhealthy", "probe failed", at=30)],
        "",
        "has no Job any more: it was deleted before it had ended, after a warning (Unhealthy: probe failed).",
    ),
}


@pytest.mark.parametrize(("events", "reason", "says"), ROWS.values(), ids=ROWS)
def test_one_answer_from_events_alone(events: list[EventView], reason: str, says: str) -> None:
    (job,) = find_deleted_jobs(reversed(events), "run-1")
    answer = explain_deleted(job, "agents", NOW)
    assert answer.headline.startswith(f"Task run-1 {says}")
    assert (answer.state, answer.reason, answer.job, answer.namespace) == (State.GONE, reason, JOB, "agents")
    assert len(answer.evidence) == len(events)


@pytest.mark.parametrize("text", ["run-1", "RUN-1", "exec-1", "run", JOB, POD, "oz-task-run", "run_1"])
def test_what_a_text_means(text: str) -> None:
    unrelated = of_pod("Failed", "x", pod="oz-task-another-exec-exec-2-abcde")
    (job,) = find_deleted_jobs([CREATED, NO_NODE, unrelated], text)
    assert job.name == JOB
    assert set(job.events) == {CREATED, NO_NODE}


@pytest.mark.parametrize("text", ["run-2", "un-1", "exec", "oz-preflight-1", "web"])
def test_what_means_nothing(text: str) -> None:
    others = [of_pod("Failed", "x", pod="web-1-abcde"), of_job("Completed", job="oz-preflight-1-exec")]
    assert find_deleted_jobs([CREATED, *others], text) == []


def test_the_newest_execution_comes_first() -> None:
    other = "oz-task-run-1-exec-exec-2"
    found = find_deleted_jobs([of_job("Completed", job=other, at=5), CREATED], "run-1")
    assert [job.name for job in found] == [other, JOB]


def test_the_beginning_of_several_tasks_names_them() -> None:
    with pytest.raises(AmbiguousTaskError, match=r"2 tasks:\n  run-1\n  run-2$"):
        find_deleted_jobs([CREATED, of_job("Completed", job="oz-task-run-2-exec-a")], "run")


def test_the_pods_of_a_long_name_are_known() -> None:
    """A Pod's name holds 58 characters of its Job's (apiserver, names.SimpleNameGenerator)."""
    run = "00000000-0000-0000-0000-000000000001"
    job = job_name(ExecutionKey(run, "a1b2c3d4e5f6"))
    pod = f"{job}-"[:58] + "x7k2p"
    warning = of_pod("Failed", "why", pod=pod)
    (whole,) = find_deleted_jobs([of_job("Completed", job=job), warning], run)
    assert warning in whole.events
    (alone,) = find_deleted_jobs([warning], pod)
    assert (alone.run, alone.name) == (run, job)
    assert (whole.has_full_name, alone.has_full_name) == (True, False)
    assert (alone.may_be(job), alone.may_be("oz-task-another-exec-e")) == (True, False)


def test_the_letter_names_the_job() -> None:
    (job,) = find_deleted_jobs([CREATED, NO_NODE], "run-1")
    lines = render_text(explain_deleted(job, "agents", NOW), NOW).splitlines()
    assert f"Job {JOB}, namespace agents" in lines
    assert "  Outlook: its last event is 9m old; the API server keeps events for an hour." in lines


def test_a_bundle_of_events_quotes_no_program() -> None:
    unhealthy = of_pod("Unhealthy", "Liveness probe failed: swordfish", at=30)
    (job,) = find_deleted_jobs([CREATED, unhealthy], "run-1")
    files = dict(deleted_job_files(job, "agents", NOW))
    assert sorted(files) == ["events.json", "explanation.json", "explanation.txt"]
    everything = b"".join(files.values())
    assert b"swordfish" not in everything
    assert everything.count(b"[a task's own words]") >= 3
