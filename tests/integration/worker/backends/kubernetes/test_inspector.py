"""Explanations of tasks whose Pods or Jobs are gone, from the events that the API server keeps."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.client import ClientSettings, KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.inspection.event_history import MOST_PODS
from oz_agent_worker.worker.backends.kubernetes.inspection.explain import explain
from oz_agent_worker.worker.backends.kubernetes.inspection.inspector import Inspector
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .api_server import ApiServer, says

JOB = "oz-task-run-1-exec-exec-1"
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}


@pytest.fixture
async def inspector(server: ApiServer, tmp_path: Path) -> AsyncIterator[Inspector]:
    quick = ClientSettings(read=RetryPolicy(budget=0.0))
    credentials = load_credentials(str(server.kubeconfig(tmp_path)), environ={})
    async with KubernetesClient(credentials, settings=quick) as client:
        yield Inspector(client, "ns", worker_id=None, policy=ObservationPolicy())


async def add_job(server: ApiServer, name: str = JOB, *conditions: dict[str, Any]) -> None:
    """Create a Job without Pods."""
    ids = {"oz.warp.dev/task-id": name, "oz.warp.dev/execution-id": name}
    metadata = {"uid": f"uid-{name}", "annotations": ids}
    await server.put("jobs", name, metadata=metadata, status={"conditions": list(conditions)})


async def add_event(
    server: ApiServer, kind: str, name: str, reason: str, message: str, at: int, *, uid: str = ""
) -> None:
    """Create an event."""
    await server.put(
        "events",
        f"{name}.{len(server.names('events'))}",
        involvedObject={"kind": kind, "name": name, "uid": uid or f"uid-{name}"},
        reason=reason,
        message=message,
        type="Normal",
        lastTimestamp=f"2026-01-01T12:{at // 60:02}:{at % 60:02}Z",
    )


async def preempted_and_started_again(server: ApiServer) -> None:
    await add_event(server, "Job", JOB, "SuccessfulCreate", f"Created pod: {JOB}-aaaaa", 0)
    await add_event(server, "Pod", f"{JOB}-aaaaa", "Preempted", "by Pod p", 5)
    await add_event(server, "Job", JOB, "SuccessfulCreate", f"Created pod: {JOB}-bbbbb", 10)
    await add_event(server, "Pod", f"{JOB}-bbbbb", "Started", "Started container task", 20)


async def test_a_list_shows_the_same_end_of_a_task_as_its_explanation(
    server: ApiServer, inspector: Inspector
) -> None:
    await add_job(server, JOB, FAILED)
    await preempted_and_started_again(server)
    (row,) = await inspector.tasks()
    (job,) = await inspector.find(JOB)
    assert row.reason == explain(await inspector.snapshot(job)).reason == "pod_missing"
    await add_event(server, "Pod", f"{JOB}-bbbbb", "Evicted", "The node was low on memory", 30)
    (row,) = await inspector.tasks()
    assert row.reason == explain(await inspector.snapshot(job)).reason == "evicted"


async def test_the_pods_of_an_earlier_job_with_the_same_name_are_not_the_jobs(
    server: ApiServer, inspector: Inspector
) -> None:
    await add_job(server, JOB, FAILED)
    await add_event(server, "Pod", f"{JOB}-aaaaa", "Preempted", "by Pod p", 5)
    await add_event(server, "Job", JOB, "SuccessfulCreate", f"Created pod: {JOB}-zzzzz", 10, uid="before")
    (row,) = await inspector.tasks()
    assert row.reason == "pod_preempted"


async def test_the_pods_of_others_take_no_tasks_place(server: ApiServer, inspector: Inspector) -> None:
    for number in range(MOST_PODS + 1):
        await add_event(server, "Pod", f"web-{number:03}-abcde", "Evicted", "The node was low on memory", 0)
    await add_job(server, JOB, FAILED)
    await add_event(server, "Pod", f"{JOB}-aaaaa", "Evicted", "The node was low on memory", 10)
    (row,) = await inspector.tasks()
    assert row.reason == "evicted"
    asked = [query.get("fieldSelector", "") for _, resource, query in server.requests if resource == "events"]
    assert [selector for selector in asked if "web-" in selector] == []


async def test_a_list_without_lost_pods_reads_no_events(server: ApiServer, inspector: Inspector) -> None:
    await add_job(server)
    await inspector.tasks()
    assert server.asked("list", "events") == 0


async def test_an_existing_job_is_not_listed_as_deleted_however_long_its_name(
    server: ApiServer, inspector: Inspector
) -> None:
    long = f"oz-task-{'r' * 41}-exec-abcdefgh"
    assert len(long) == 63
    await add_event(server, "Pod", f"{long[:58]}aaaaa", "Failed", "no image", 5)
    deleted = await inspector.find_deleted("r" * 41)
    assert deleted is not None
    assert deleted.name == long[:58]
    await add_job(server, f"{long[:58]}other")
    assert await inspector.find_deleted("r" * 41) is None


async def test_of_an_execution_that_is_gone_the_end_of_its_last_pod_counts(
    server: ApiServer, inspector: Inspector
) -> None:
    await preempted_and_started_again(server)
    deleted = await inspector.find_deleted("run-1")
    assert deleted is not None
    assert len(deleted.events) == 4
    await add_job(server)
    assert await inspector.find_deleted("run-1") is None


@pytest.mark.parametrize("request_", [("list", "events"), ("get", "jobs")])
@pytest.mark.parametrize("code", [403, 503])
async def test_events_that_cannot_be_read_explain_nothing(
    server: ApiServer, inspector: Inspector, request_: tuple[str, str], code: int
) -> None:
    await preempted_and_started_again(server)
    server.faults[request_].append(says(code))
    assert await inspector.find_deleted("run-1") is None
